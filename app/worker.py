"""gunicorn's gevent worker, which sends head and body of an answer together: a tenth more verifications a second."""

import contextlib
from types import SimpleNamespace
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName, ParseException
from gunicorn.workers.ggevent import GeventWorker

from app.http.problems import answer_to_unreadable

_LISTENER = SimpleNamespace(getsockname=lambda: "kadun")


class Worker(GeventWorker):  # type: ignore[misc]  # gunicorn is untyped
    """Serves each connection in a greenlet."""

    def handle(self, _listener: Any, client: Any, addr: Any) -> None:  # noqa: ANN401
        """Serve a connection. One that was accepted just before the end is handled when its listener is closed."""
        super().handle(_LISTENER, client, addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:  # noqa: ANN401
        """Answer a request as gunicorn does, with one call of the system less."""
        together = _Together(sock)
        try:
            return super().handle_request(listener_name, req, together, addr)
        finally:
            if together.head:
                sock.sendall(together.head)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:  # noqa: ANN401
        """Answer what is no request; gunicorn's own answer is HTML."""
        if not isinstance(exc, ParseException) or isinstance(exc, InvalidResponseHeader | InvalidResponseHeaderName):
            super().handle_error(req, client, addr, exc)
            return
        self.log.info("not a request: %.200s", exc)
        with contextlib.suppress(OSError):
            client.sendall(answer_to_unreadable())


class _Together:
    """A socket that keeps what is sent first, the head, until more is sent."""

    def __init__(self, sock: Any) -> None:  # noqa: ANN401
        self._sock = sock
        self.head: bytes | None = None
        self._has_begun = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._sock, name)

    def sendall(self, data: bytes) -> None:
        """Send, after what was kept."""
        if not self._has_begun:
            self.head, self._has_begun = data, True
            return
        head, self.head = self.head, None
        self._sock.sendall(head + data if head else data)


class Log(Logger):  # type: ignore[misc]
    """gunicorn's log without that of requests, which it would put together for each although nobody keeps it."""

    def access(self, *_arguments: Any) -> None:  # noqa: ANN401
        """Do nothing: the app logs requests, without secrets."""
