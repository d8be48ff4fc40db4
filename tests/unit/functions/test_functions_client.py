"""The client of the functions service, against invalid answers."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.functions.client import MAX_ANSWER_BYTES, FunctionsBusyError, FunctionsClient, FunctionsUnavailableError
from app.functions.decorator import Caller
from app.functions.messages import CallResult, Returned

CALLER = Caller("card", "client", datetime(2027, 1, 1, tzinfo=UTC))


class Liar:
    """Answers every request alike."""

    def __init__(self, path: Path) -> None:
        self.answer = b""
        self.requests: list[bytes] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def says(self, status: int, body: bytes, length: int | None = None) -> None:
        self.answer = (
            b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body) if length is None else length) + body
        )

    def stop(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as reader:
                head = b"".join(iter(reader.readline, b"\r\n"))
                length = re.search(rb"Content-Length: (\d+)", head)
                self.requests.append(head + reader.read(int(length[1]) if length else 0))
                with contextlib.suppress(OSError):
                    connection.sendall(self.answer)


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    running = Liar(tmp_path / "x.sock")
    yield running
    running.stop()


@pytest.fixture
def client(tmp_path: Path) -> FunctionsClient:
    return FunctionsClient(tmp_path / "x.sock", 1)


def test_a_call_and_its_result(liar: Liar, client: FunctionsClient) -> None:
    liar.says(200, '{"outcome":{"outcome":"ok","result":{"价":1}},"printed":"p"}'.encode())
    assert client.run("名", {"a": 1}, CALLER) == CallResult(Returned({"价": 1}), "p")
    assert client.call("名", {"a": 1}, CALLER) == Returned({"价": 1})
    assert liar.requests[0].startswith(b"POST /call HTTP/1.1\r\n")
    assert '"function": "名", "arguments": {"a": 1}'.encode() in liar.requests[0]
    assert b'"expires_at": "2027-01-01T00:00:00Z"' in liar.requests[0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"not json",
        b'{"outcome":"ok"}',
        b'{"outcome":"fine","result":1}',
        b'{"outcome":"failed","detail":1}',
        b'{"outcome":"ok","result":NaN}',
        b'{"outcome":"ok","result":"\xff"}',
        b'{"outcome":"ok","result":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"outcome":"ok","result":1} {}',
    ],
)
def test_an_answer_of_another_shape_is_an_error(liar: Liar, client: FunctionsClient, body: bytes) -> None:
    for answer in (body, b'{"outcome":%b,"printed":""}' % body):
        liar.says(200, answer)
        with pytest.raises(FunctionsUnavailableError):
            client.call("name", {}, CALLER)


def test_an_answer_that_is_too_large_is_an_error(liar: Liar, client: FunctionsClient) -> None:
    liar.says(200, b'{"outcome":"ok","result":"' + b"x" * MAX_ANSWER_BYTES + b'"}')
    with pytest.raises(FunctionsUnavailableError, match="4194305 bytes"):
        client.call("name", {}, CALLER)


@pytest.mark.parametrize("status", [302, 400, 404, 413, 500])
def test_another_status_is_an_error(liar: Liar, client: FunctionsClient, status: int) -> None:
    liar.says(status, b'{"outcome":"ok","result":1}')
    with pytest.raises(FunctionsUnavailableError) as refusal:
        client.call("name", {}, CALLER)
    assert not isinstance(refusal.value, FunctionsBusyError)


def test_a_busy_service_is_an_error_of_its_own(liar: Liar, client: FunctionsClient) -> None:
    for body in (b'{"error":"the reason"}', b"", b"[]", b"\xff"):
        liar.says(503, body)
        with pytest.raises(FunctionsBusyError, match="the reason" if b"reason" in body else "busy"):
            client.call("name", {}, CALLER)


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxy"])
def test_an_answer_that_is_not_http_is_an_error(liar: Liar, client: FunctionsClient, answer: bytes) -> None:
    liar.answer = answer
    with pytest.raises(FunctionsUnavailableError):
        client.list()


def test_a_missing_socket_or_folder_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.sock", tmp_path / "none" / "none.sock"):
        with pytest.raises(FunctionsUnavailableError, match="no answer"):
            FunctionsClient(path, 1).reload()
