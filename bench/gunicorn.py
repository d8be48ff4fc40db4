"""The service under measurement, started as in production: gunicorn with app.gunicorn_conf."""

import contextlib
import http
import http.client
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import http_requests
from bench.code import THIS, Code
from bench.errors import BenchError
from bench.fixed_rate import Target
from trial.child import Child
from trial.environment import CHECKOUT
from trial.errors import tail
from trial.ports import LOOPBACK, free_port

WORKERS = 2
THREADS = 8
CONNECTIONS = WORKERS * THREADS
"""So many requests are under way at once, unless a figure says otherwise."""

_ROUTES = CHECKOUT / "bench/routes"
_READY_SECONDS = 60
_POLL_SECONDS = 0.1


class Gunicorn:
    """One gunicorn on a free port of 127.0.0.1, or on a unix socket.

    Args:
        application: As gunicorn takes it, `app.wsgi:app` for example.
        environ: The app's settings.
        log: What it writes.
        socket: Where it listens instead of a port; `url` is nothing to ask then.
        command: What Python runs instead of gunicorn with the application.
        code: Whose application and settings.
    """

    def __init__(  # noqa: PLR0913  # what differs between the services
        self,
        application: str,
        environ: Mapping[str, str],
        log: Path,
        *,
        socket: Path | None = None,
        command: Sequence[str] = (),
        code: Code = THIS,
    ) -> None:
        self._port = free_port()
        self._socket = socket
        self.url = f"http://{LOOPBACK}:{self._port}"
        self._log = log
        settings = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{code.folder}:{_ROUTES}",
            "KADUN_BIND": f"unix:{socket}" if socket else f"{LOOPBACK}:{self._port}",
            "KADUN_WORKERS": str(WORKERS),
            "KADUN_THREADS": str(THREADS),
        }
        run = command or ("-m", "gunicorn", "--config", "python:app.gunicorn_conf", application)
        self._child = Child([code.python, "-P", *run], settings | dict(environ), log, signal.SIGTERM, cwd=code.folder)
        self._child.start()

    @property
    def target(self) -> Target:
        """Where `fixed_rate` finds it."""
        return Target(LOOPBACK, self._port)

    @property
    def pid(self) -> int:
        """The number of its master process.

        Raises:
            BenchError: it has ended.
        """
        if self._child.pid is None:
            raise BenchError("the service has ended")
        return self._child.pid

    def wait_for(self, path: str) -> None:
        """Wait until `path` is answered with success.

        Raises:
            BenchError: it ended, or does not get ready in time.
        """
        deadline = time.monotonic() + _READY_SECONDS
        while not self._answers(path):
            if self._child.pid is None or time.monotonic() > deadline:
                said = tail(self._log.read_text(errors="replace"), lines=1)
                raise BenchError(f"the service does not get ready: {said}")
            time.sleep(_POLL_SECONDS)

    def connect(self, source: str = LOOPBACK) -> http.client.HTTPConnection:
        """Return a connection to it from this address, to be closed by the caller."""
        if self._socket:
            return http_requests.SocketConnection(self._socket)
        return http.client.HTTPConnection(
            LOOPBACK, self._port, source_address=(source, 0), timeout=http_requests.SECONDS
        )

    def post(self, path: str, document: Mapping[str, object]) -> dict[str, Any]:
        """Return the answer to one request.

        Raises:
            BenchError: it is no success.
        """
        with contextlib.closing(self.connect()) as connection:
            return http_requests.post(connection, path, document)

    def stop(self) -> None:
        """End it, at first gently."""
        self._child.stop()

    def _answers(self, path: str) -> bool:
        with contextlib.closing(self.connect()) as connection:
            try:
                connection.request("GET", path)
                return connection.getresponse().status == http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):
                return False
