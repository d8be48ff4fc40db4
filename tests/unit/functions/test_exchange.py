"""What the functions service and its client believe of each other's messages, and who may begin a call."""

import contextlib
import json
import os
import re
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest

from app import unix_server
from app.domain.calls import Caller as CallingClient
from app.domain.calls import CallLimits
from app.functions.api import Api, BusyError
from app.functions.client import MAX_ANSWER_BYTES, FunctionsBusyError, FunctionsClient, FunctionsUnavailableError
from app.functions.decorator import Caller
from app.functions.library import NotLoadedError
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
        b"not json",
        b'{"outcome":"fine","result":1}',
        b'{"outcome":"failed","detail":1}',
        b'{"outcome":"ok","result":NaN}',
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


class NoLibrary:
    """A library that no call gets as far as."""

    def listing(self, *_call: object) -> NoReturn:
        raise NotLoadedError("not loaded")

    reload = call = listing


def api(places: int = 2) -> Api:
    return Api(NoLibrary(), CallLimits(places, 1, 2))  # type: ignore[arg-type]


@for_each(
    "body",
    [
        *(b"", b"[]", b"{", b"\xff", b"[" * 100_000),
        *(
            json.dumps({**CALL, **changes}).encode()
            for changes in (
                {"more": 1},
                {"arguments": []},
                {"caller": {"card_id": "card", "client_id": "client"}},
                {"caller": {**CALL["caller"], "expires_at": "2027-01-01T00:00:00"}},
            )
        ),
    ],
)
def test_an_invalid_call_is_refused(body: bytes) -> None:
    assert api().answer("POST /call", json.dumps(CALL).encode()) == (503, b'{"error":"not loaded"}')
    assert api().answer("POST /call", body)[0] == 400


def test_a_place_is_free_again_after_a_failure_and_no_caller_takes_another_ones() -> None:
    first, second, third = (CallingClient(name, f"192.0.2.{at}") for at, name in enumerate("abc"))
    place_of = api()._place_of  # noqa: SLF001  # no call of the API can be held up here
    with pytest.raises(ValueError, match="it"), place_of(first):
        raise ValueError("it")
    with place_of(first) as one, place_of(second) as other:
        assert one != other
        with pytest.raises(BusyError), place_of(third):
            pass
    with place_of(third) as again:
        assert again == one


def test_a_request_is_answered_over_the_socket_unless_it_is_too_long(client: FunctionsClient, tmp_path: Path) -> None:
    before = Path.cwd()
    with unix_server.listen(tmp_path / "x.sock", api().answer, 1000) as serving:
        os.chdir(before)
        threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
        too_long = "an answer of status 413|Broken pipe|Connection reset"  # by the time that the request is written
        for arguments, said in (({}, "not loaded"), ({"long": "x" * 1000}, too_long)):
            with pytest.raises(FunctionsUnavailableError, match=said):
                client.call("name", arguments, CALLER)
        serving.shutdown()
