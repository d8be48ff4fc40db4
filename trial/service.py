"""The service and the functions service. Standard library only."""

import http.client
import signal
import subprocess
import sys
import time
import urllib.request

from trial.child import Child
from trial.environment import CHECKOUT, Trial
from trial.errors import TrialError, tail

_READY_SECONDS = 60
_POLL_SECONDS = 0.1
_GUNICORN = (sys.executable, "-P", "-m", "gunicorn", "--config")


class Service(Child):
    """gunicorn with the service."""

    def __init__(self, trial: Trial, environ: dict[str, str], held: int) -> None:
        command = (*_GUNICORN, "python:app.gunicorn_conf", "app.wsgi:app")
        super().__init__(command, environ, trial.logs / "service.log", signal.SIGTERM, held, cwd=CHECKOUT)
        self._url = f"{trial.url}/readyz"

    def wait_ready(self) -> None:
        """Wait until the service answers that it is ready.

        Raises:
            TrialError: It ended, or is not ready within a minute.
        """
        deadline = time.monotonic() + _READY_SECONDS
        while not _answers(self._url):
            self.require_running()
            if time.monotonic() > deadline:
                raise self.failure("服务未能就绪", "The service does not get ready")
            time.sleep(_POLL_SECONDS)

    def require_running(self) -> None:
        """Make sure that the service runs.

        Raises:
            TrialError: It has ended; the end of its log says why.
        """
        if self.pid is None:
            raise self.failure("服务已退出", "The service has ended")


class FunctionsService(Child):
    """The service with the vendor's core functions. Its environment holds no secret."""

    def __init__(self, trial: Trial, environ: dict[str, str]) -> None:
        command = (sys.executable, "-P", "-m", "app.functions")
        # SIGQUIT ends it at once: nobody who pressed Ctrl-C waits for a call that hangs.
        super().__init__(command, environ, trial.logs / "functions.log", signal.SIGQUIT, cwd=CHECKOUT)
        self._socket = trial.functions_socket

    def start(self) -> None:
        """Start it without waiting for anything."""
        self._socket.unlink(missing_ok=True)  # `wait_listening` must not see that of a killed trial
        super().start()

    def wait_listening(self) -> None:
        """Wait until it listens, which is before it has loaded the vendor's modules.

        Raises:
            TrialError: It ended: a setting is wrong.
        """
        deadline = time.monotonic() + _READY_SECONDS
        while not self._socket.exists() and time.monotonic() < deadline:
            if self.pid is None:
                raise self.failure("核心功能服务无法启动", "The functions service does not start")
            time.sleep(_POLL_SECONDS)


def migrate(environ: dict[str, str]) -> None:
    """Bring the database that `environ` names up to date.

    Raises:
        TrialError: The migration failed; the error shows the end of what it printed.
    """
    command = [sys.executable, "-P", "-m", "app", "migrate"]
    done = subprocess.run(command, check=False, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise TrialError("数据库升级失败。", "Could not bring the database up to date.", detail=tail(done.stderr))


def _answers(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        direct.open(url, timeout=5).close()
    except (OSError, http.client.HTTPException):  # refused, or answered with an error such as 503
        return False
    return True
