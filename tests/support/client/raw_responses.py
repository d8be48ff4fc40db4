"""HTTP responses written byte by byte: complete, cut off, stalled, dripping or endless."""

import socket
from collections.abc import Callable

from tests.support.client.local_http import Handler, Respond
from tests.support.client.timing import STALLED

Ending = Callable[[Handler], object]
OK = b"HTTP/1.1 200 OK\r\n"
LONG = OK + b"Content-Length: 100000\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def send(raw: bytes, then: Ending = lambda _handler: None) -> Respond:
    """Send exactly these bytes; then close the connection, unless `then` does something else before."""

    def respond(handler: Handler, _body: bytes) -> None:
        handler.wfile.write(raw)
        then(handler)

    return respond


def stall(handler: Handler) -> None:
    STALLED.set()
    handler.server.released.wait()


def repeat(piece: bytes, pause_seconds: float = 0.0) -> Ending:
    """Send a piece again and again; the server counts as stalled after a few."""

    def ending(handler: Handler) -> None:
        for _ in range(5):
            handler.wfile.write(piece)
        STALLED.set()
        while not handler.server.released.wait(pause_seconds):
            handler.wfile.write(piece)

    return ending


def drip(drop: bytes) -> Ending:
    return repeat(drop, 0.02)


def half_close(handler: Handler) -> None:
    """Send no more, but keep the connection."""
    handler.connection.shutdown(socket.SHUT_WR)
    handler.server.released.wait()
