"""What the functions service and its client believe of each other's messages, and who may begin a call."""

import contextlib
import json
import re
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from falcon import testing

from app.domain.calls import Caller as CallingClient
from app.domain.calls import CallLimits
from app.functions.api import create_app
from app.functions.client import MAX_ANSWER_BYTES, FunctionsBusyError, FunctionsClient, FunctionsUnavailableError
from app.functions.concurrency import BusyError, ConcurrencyLimiter
from app.functions.decorator import Caller
from app.functions.supervisor import MAX_REQUEST_BYTES
from tests.support.tables import for_each

CALLER = Caller("card", "client", datetime(2027, 1, 1, tzinfo=UTC))
CALL: dict[str, Any] = {
    "function": "名",
    "arguments": {},
    "caller": {"card_id": "card", "client_id": "client", "expires_at": "2027-01-01T00:00:00+00:00"},
}


class Liar(socketserver.UnixStreamServer):
    """A service that answers every request alike."""

    answer = b""

    def says(self, status: int, body: bytes) -> None:
        self.answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body

    class Answer(socketserver.StreamRequestHandler):
        server: "Liar"

        def handle(self) -> None:
            head = b"".join(iter(self.rfile.readline, b"\r\n"))
            length = re.search(rb"Content-Length: (\d+)", head)
            self.rfile.read(int(length[1]) if length else 0)
            with contextlib.suppress(OSError):
                self.wfile.write(self.server.answer)


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    with Liar(str(tmp_path / "x.sock"), Liar.Answer) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def client(tmp_path: Path) -> FunctionsClient:
    return FunctionsClient(tmp_path / "x.sock", 1)


@for_each(
    "body",
    [
        b"",
        b"null",
        b"not json",
        b'{"outcome":"fine","result":1}',
        b'{"outcome":"failed","detail":1}',
        b'{"outcome":"ok","result":NaN}',
        b'{"outcome":"ok","result":"\xff"}',
        b'{"outcome":"ok","result":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"outcome":"ok","result":1} {}',
        b'{"outcome":"ok","result":"' + b"x" * MAX_ANSWER_BYTES + b'"}',
    ],
)
def test_an_answer_of_another_shape_is_an_error(liar: Liar, client: FunctionsClient, body: bytes) -> None:
    for answer in (body, b'{"outcome":%b,"printed":""}' % body):
        liar.says(200, answer)
        with pytest.raises(FunctionsUnavailableError):
            client.call("name", {}, CALLER)


def test_another_status_and_what_is_not_http_are_errors_and_a_busy_service_one_of_its_own(
    liar: Liar, client: FunctionsClient
) -> None:
    for status in (302, 400, 500):
        liar.says(status, b'{"outcome":{"outcome":"ok","result":1},"printed":""}')
        with pytest.raises(FunctionsUnavailableError) as refusal:
            client.call("name", {}, CALLER)
        assert not isinstance(refusal.value, FunctionsBusyError)
    for body in (b'{"error":"the reason"}', b"", b"[]", b"\xff"):
        liar.says(503, body)
        with pytest.raises(FunctionsBusyError, match="the reason" if b"reason" in body else "busy"):
            client.call("name", {}, CALLER)
    for liar.answer in (b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxy"):
        with pytest.raises(FunctionsUnavailableError):
            client.list()


def service(places: int = 2) -> testing.TestClient:
    """The service without a library: no call gets as far as that."""
    return testing.TestClient(create_app(None, CallLimits(places, 1, 2)))  # type: ignore[arg-type]


@for_each(
    "body, status",
    [
        *[(body, 400) for body in ("", "[]", "{", b"\xff", "[" * 100_000)],
        *[
            (json.dumps({**CALL, **changes}), 400)
            for changes in (
                {"more": 1},
                {"arguments": []},
                {"caller": {"card_id": "card", "client_id": "client"}},
                {"caller": {**CALL["caller"], "expires_at": "2027-01-01T00:00:00"}},
            )
        ],
        ("x" * (MAX_REQUEST_BYTES + 1), 413),
    ],
)
def test_an_invalid_call_is_refused(body: str | bytes, status: int) -> None:
    assert service().simulate_post("/call", body=body).status_code == status


def test_a_slot_is_free_again_after_a_failure_and_a_clear_one_is_given_first() -> None:
    first, second, third = (CallingClient(name, f"192.0.2.{at}") for at, name in enumerate("abc"))
    slots = ConcurrencyLimiter(CallLimits(2, 1, 2))
    with pytest.raises(ValueError, match="it"), slots.slot(first):
        raise ValueError("it")
    with slots.slot(first), slots.slot(second) as clear:
        clear.is_clear = True
        with pytest.raises(BusyError), slots.slot(third):
            pass
    with slots.slot(third) as given:
        assert given is clear
