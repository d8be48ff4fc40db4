"""The service itself, as a child process. Standard library only."""

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from trial.environment import CHECKOUT, Trial, write_secret
from trial.errors import TrialError, tail
from trial.processes import start_time

_READY_SECONDS = 60
_STOP_SECONDS = 20
_POLL_SECONDS = 0.1
_GUNICORN = (sys.executable, "-P", "-m", "gunicorn", "--config", "python:app.gunicorn_conf", "app.wsgi:app")


class Service:
    """gunicorn with the service, in a process group of its own: Ctrl-C reaches it through `stop` only."""

    def __init__(self, trial: Trial, environ: dict[str, str]) -> None:
        """Takes the trial that it serves and the environment that tells it everything."""
        self._trial = trial
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What it writes."""
        return self._trial.logs / "service.log"

    def start(self) -> None:
        """Starts it and does not wait."""
        # Should this process be killed, the service ends too and leaves its port.
        setpriv = shutil.which("setpriv")
        tied = (setpriv, "--pdeathsig", "TERM") if setpriv else ()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*tied, *_GUNICORN],
                env=self._environ,
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        pid = self._process.pid
        write_secret(_pid_file(self._trial), f"{pid} {start_time(pid)}")

    def wait_ready(self) -> None:
        """Waits until the service answers that it is ready.

        Raises:
            TrialError: It ended, or is not ready within a minute.
        """
        deadline = time.monotonic() + _READY_SECONDS
        while not _answers(f"{self._trial.url}/readyz"):
            self.require_running()
            if time.monotonic() > deadline:
                raise self._failure("服务未能就绪", "The service does not get ready")
            time.sleep(_POLL_SECONDS)

    def require_running(self) -> None:
        """Makes sure that the service runs.

        Raises:
            TrialError: It has ended; the end of its log says why.
        """
        if self._process is None or self._process.poll() is not None:
            raise self._failure("服务已退出", "The service has ended")

    def stop(self) -> None:
        """Ends it, at first gently; nothing happens when it does not run."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        _pid_file(self._trial).unlink(missing_ok=True)

    def _failure(self, chinese: str, english: str) -> TrialError:
        detail = tail(self.log.read_text(encoding="utf-8", errors="replace"))
        return TrialError(f"{chinese}，日志：{self.log}。", f"{english}; its log: {self.log}.", detail=detail)


def migrate(environ: dict[str, str]) -> None:
    """Brings the database that `environ` names up to date.

    Raises:
        TrialError: It cannot be; the end of what was printed says why.
    """
    command = [sys.executable, "-P", "-m", "app", "migrate"]
    done = subprocess.run(command, check=False, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise TrialError("数据库升级失败。", "Could not bring the database up to date.", detail=tail(done.stderr))


def leftover(trial: Trial) -> int | None:
    """Returns the process of a service that a killed trial left behind, or None."""
    try:
        pid, started = _pid_file(trial).read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if start_time(int(pid)) == started else None


def end_leftover(trial: Trial) -> None:
    """Ends a service that a killed trial left behind."""
    for mortal in (signal.SIGTERM, signal.SIGKILL):
        if (pid := leftover(trial)) is None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, mortal)
        deadline = time.monotonic() + _STOP_SECONDS
        while leftover(trial) is not None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    _pid_file(trial).unlink(missing_ok=True)


def _pid_file(trial: Trial) -> Path:
    return trial.data_dir / "service.pid"


def _answers(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        direct.open(url, timeout=5).close()
    except (OSError, http.client.HTTPException):  # refused, or answered with an error such as 503
        return False
    return True
