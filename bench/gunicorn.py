"""The service under measurement, started as in production: gunicorn with app.gunicorn_conf."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from trial.environment import CHECKOUT
from trial.errors import tail
from trial.ports import LOOPBACK, free_port

WORKERS = 2
THREADS = 8
CONNECTIONS = WORKERS * THREADS
"""So many requests are under way at once, by wrk and by pgbench alike."""

_COMMAND = ("gunicorn", "--config", "python:app.gunicorn_conf")
_READY_SECONDS = 60
_STOP_SECONDS = 20
_POLL_SECONDS = 0.1


class Gunicorn:
    """One gunicorn on a free port of 127.0.0.1.

    Args:
        application: As gunicorn takes it, `app.wsgi:app` for example.
        environ: The app's settings.
        log: What it writes.
    """

    def __init__(self, application: str, environ: Mapping[str, str], log: Path) -> None:
        self.url = f"http://{LOOPBACK}:{(port := free_port())}"
        self._log = log
        setpriv = shutil.which("setpriv")
        tied = (setpriv, "--pdeathsig", "TERM") if setpriv else ()  # should we be killed, it ends too
        settings = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(CHECKOUT),
            "KADUN_BIND": f"{LOOPBACK}:{port}",
            "KADUN_WORKERS": str(WORKERS),
            "KADUN_THREADS": str(THREADS),
        }
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*tied, sys.executable, "-P", "-m", *_COMMAND, application],
                env=settings | dict(environ),
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The number of its master process."""
        return self._process.pid

    def wait_for(self, path: str) -> None:
        """Wait until `path` is answered with success.

        Raises:
            BenchError: it ended, or does not get ready in time.
        """
        deadline = time.monotonic() + _READY_SECONDS
        while not self._answers(path):
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = tail(self._log.read_text(errors="replace"), lines=1)
                raise BenchError(f"the service does not get ready: {said}")
            time.sleep(_POLL_SECONDS)

    def post(self, path: str, document: Mapping[str, object]) -> dict[str, Any]:
        """Return the answer to one request.

        Raises:
            BenchError: it is no success.
        """
        request = urllib.request.Request(  # noqa: S310  # to ourselves
            self.url + path, json.dumps(document).encode(), {"Content-Type": "application/json"}
        )
        try:
            with _direct().open(request, timeout=10) as answer:
                parsed: dict[str, Any] = json.load(answer)
                return parsed
        except OSError as error:
            raise BenchError(f"{path} is not answered as it should be: {error}") from error

    def stop(self) -> None:
        """End it, at first gently."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self, path: str) -> bool:
        try:
            _direct().open(self.url + path, timeout=5).close()
        except OSError:
            return False
        return True


def _direct() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the caller has
