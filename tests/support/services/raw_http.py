"""Connections to the service over which a test sends what it likes, and when."""

import contextlib
import json
import socket
import struct
from pathlib import Path
from typing import Any, Self

from tests.support.services.http_exchange import Response, read_response
from tests.support.services.service import Service, question

SECONDS = 60
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class RawConnection:
    """A kept connection."""

    def __init__(self, target: int | Path) -> None:
        if isinstance(target, int):
            self.socket = socket.create_connection(("127.0.0.1", target), SECONDS)
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(SECONDS)
            self.socket.connect(str(target))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, content: bytes) -> Self:
        self.socket.sendall(content)
        return self

    def answer(self) -> Response:
        return read_response(self.socket)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """End the connection as a program that crashes does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def is_closed(self) -> bool:
        """Wait for the end of the connection; False if something else comes."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


class Connections:
    """Opens connections, and closes them together."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self.close = self._open.close

    def __call__(self, service: Service) -> RawConnection:
        """Connect to the service's port or socket."""
        return self._open.enter_context(RawConnection(getattr(service, "socket", service.port)))

    def kept(self, service: Service, count: int) -> list[RawConnection]:
        """Connections that wait for another request, after an answer to the first."""
        found = [self(service).send(GET) for _ in range(count)]
        assert {connection.answer().status for connection in found} == {200}
        return found


def verification(card_id: str, **fields: Any) -> bytes:
    """A request as it travels; the proxy's header counts only behind a proxy."""
    return posting("/v1/verify", json.dumps(question(card_id, **fields)).encode())


def posting(path: str, body: bytes, *headers: str) -> bytes:
    lines = ("Host: localhost", "X-Real-IP: 127.0.0.1", "Content-Type: application/json", *headers)
    length = () if any(line.startswith(("Content-Length", "Transfer")) for line in lines) else (len(body),)
    head = [f"POST {path} HTTP/1.1", *lines, *(f"Content-Length: {number}" for number in length)]
    return "\r\n".join([*head, "", ""]).encode() + body
