"""The service itself, and the functions' service beside it. Standard library only."""

import http.client
import signal
import subprocess
import sys
import time
import urllib.request

from trial.child import Child, end_leftover
from trial.environment import Trial
from trial.errors import TrialError, tail

SERVICE = "service"
FUNCTIONS = "functions"

_READY_SECONDS = 60
_POLL_SECONDS = 0.1
_GUNICORN = (sys.executable, "-P", "-m", "gunicorn", "--config")


class Service(Child):
    """gunicorn with the service."""

    def __init__(self, trial: Trial, environ: dict[str, str]) -> None:
        """Takes the trial that it serves and the environment that tells it everything."""
        command = (*_GUNICORN, "python:app.gunicorn_conf", "app.wsgi:app")
        super().__init__(trial, SERVICE, command, environ, signal.SIGTERM)

    def wait_ready(self) -> None:
        """Waits until the service answers that it is ready.

        Raises:
            TrialError: It ended, or is not ready within a minute.
        """
        deadline = time.monotonic() + _READY_SECONDS
        while not _answers(f"{self._trial.url}/readyz"):
            self.require_running()
            if time.monotonic() > deadline:
                raise self.failure("服务未能就绪", "The service does not get ready")
            time.sleep(_POLL_SECONDS)

    def require_running(self) -> None:
        """Makes sure that the service runs.

        Raises:
            TrialError: It has ended; the end of its log says why.
        """
        if self.has_ended:
            raise self.failure("服务已退出", "The service has ended")


class FunctionsService(Child):
    """gunicorn with the vendor's core functions. It knows no secret: its environment is its own."""

    def __init__(self, trial: Trial, environ: dict[str, str]) -> None:
        """Takes the trial and the environment that tells it everything."""
        command = (*_GUNICORN, "python:app.functions.gunicorn_conf", "app.functions.wsgi:app")
        # At once: a call that hangs is no reason to let whoever pressed Ctrl-C wait.
        super().__init__(trial, FUNCTIONS, command, environ, signal.SIGQUIT)

    def start(self) -> None:
        """Starts it and does not wait."""
        self._trial.functions_socket.unlink(missing_ok=True)  # a killed one's, at which `wait_listening` must not look
        super().start()

    def wait_listening(self) -> None:
        """Waits until it listens, which is before it has loaded the vendor's modules.

        Raises:
            TrialError: It ended: a setting is wrong.
        """
        deadline = time.monotonic() + _READY_SECONDS
        while not self._trial.functions_socket.exists() and time.monotonic() < deadline:
            if self.has_ended:
                raise self.failure("核心功能服务无法启动", "The functions' service does not start")
            time.sleep(_POLL_SECONDS)


def migrate(environ: dict[str, str]) -> None:
    """Brings the database that `environ` names up to date.

    Raises:
        TrialError: It cannot be; the end of what was printed says why.
    """
    command = [sys.executable, "-P", "-m", "app", "migrate"]
    done = subprocess.run(command, check=False, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise TrialError("数据库升级失败。", "Could not bring the database up to date.", detail=tail(done.stderr))


def end_leftovers(trial: Trial) -> None:
    """Ends what a killed trial left behind."""
    for name in (FUNCTIONS, SERVICE):
        end_leftover(trial, name)


def _answers(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        direct.open(url, timeout=5).close()
    except (OSError, http.client.HTTPException):  # refused, or answered with an error such as 503
        return False
    return True
