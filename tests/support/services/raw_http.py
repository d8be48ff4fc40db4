"""Connections over which a test sends what it likes, and requests that wait for a lock in the database."""

import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import psycopg2

from tests.support.services.http_exchange import Response, read_response
from tests.support.services.service import Response as Answer
from tests.support.services.service import Service, question, wait_for

SECONDS = 60
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
ONE_WORKER = {"KADUN_BEHIND_PROXY": "true", "KADUN_WORKERS": "1", "KADUN_THREADS": "4"}
_MAX_UNDER_WAY = 8
_SECONDS = 4
"""How long requests may be held up: the database ends their wait after five seconds (`lock_timeout`)."""
_TRIES = 3


class RawConnection:
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
    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self.close = self._open.close

    def __call__(self, service: Service) -> RawConnection:
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


def hold_up(
    service: Service, lock: str, requests: Sequence[Callable[[], Answer]], card_id: str, values: Sequence[str] = ()
) -> None:
    """Hold up requests at a service with `ONE_WORKER` while a customer is served.

    Those above the limit are refused at once, all others are answered when the lock goes. All is done again, twice at
    most, if a busy machine takes too long.

    Args:
        service: What serves them.
        lock: The SQL statement that takes the lock.
        requests: The requests to send at the same time; each may be sent again.
        card_id: The customer's card.
        values: The values of the statement's parameters.
    """
    held_up = any(_hold_up_once(service, lock, requests, card_id, values) for _ in range(_TRIES))
    assert held_up, f"not all was done within {_SECONDS} s, in {_TRIES} tries"


def _hold_up_once(
    service: Service, lock: str, requests: Sequence[Callable[[], Answer]], card_id: str, values: Sequence[str]
) -> bool:
    """Return False if the machine took so long that the database may have ended the requests' wait."""
    database_url = service.environment["DATABASE_URL"]
    with contextlib.closing(psycopg2.connect(database_url)) as other, ThreadPoolExecutor(len(requests)) as pool:
        with other.cursor() as cursor:
            cursor.execute(lock, values)
        end = time.monotonic() + _SECONDS
        answers = [pool.submit(request) for request in requests]
        try:
            wait_for(lambda: len(_done(answers)) == len(requests) - _MAX_UNDER_WAY or time.monotonic() > end)
            refused = _done(answers)
            if time.monotonic() > end:
                return False
            assert {answer.result().status for answer in refused} == {503}
            assert {"retry-after" in answer.result().headers for answer in refused} == {True}
            for number in range(5):
                asked = question(card_id, "a machine", function=f"function {number}")
                assert service.verify(asked, address="192.0.2.1").status == 200
            held_up = _done(answers) == refused
            if time.monotonic() > end:
                return False
            assert held_up
        finally:
            other.rollback()
        assert {answer.result().status for answer in answers if answer not in refused} == {200}
        return True


def _done(answers: list[Future[Answer]]) -> list[Future[Answer]]:
    return [answer for answer in answers if answer.done()]
