"""When the client asks again."""

from __future__ import annotations

from typing import Any

import pytest
from kadun import Client, ServerUnreachable, UntrustedAnswer
from kadun.responses import Response

from tests.support.client.fake_server import FakeServer, SigningKey


def broken() -> ServerUnreachable:
    return ServerUnreachable("ConnectionResetError", passing=True)


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_busy_server_is_asked_again_with_another_nonce(
    status: int, client: Client, server: FakeServer, pauses: list[float]
) -> None:
    server.script = [Response(status, b"<html>busy</html>"), Response(status, b'{"code": "UNAVAILABLE"}')]
    assert client.open().accepted
    assert len({request["nonce"] for request in server.requests}) == 3
    assert len(pauses) == 2
    assert 0.25 <= pauses[0] <= 0.5 <= pauses[1] <= 1


def test_a_broken_connection_is_tried_again(client: Client, server: FakeServer) -> None:
    server.script = [broken()]
    assert client.open().accepted


def test_tries_are_bounded(client: Client, server: FakeServer, pauses: list[float]) -> None:
    server.script = [broken() for _ in range(9)]
    with pytest.raises(ServerUnreachable, match="ConnectionResetError"):
        client.open()
    assert len(server.requests) == 3
    assert len(pauses) == 2


def test_retry_after_is_respected(client: Client, server: FakeServer, pauses: list[float]) -> None:
    server.script = [Response(429, b"", retry_after="4")]
    client.open()
    assert 4 < pauses[0] <= 4.5


def test_a_long_retry_after_is_left_to_the_caller(client: Client, server: FakeServer, pauses: list[float]) -> None:
    server.script = [Response(429, b"", retry_after="60")]
    with pytest.raises(ServerUnreachable) as caught:
        client.open()
    assert caught.value.retry_after == 60
    assert (len(server.requests), pauses) == (1, [])


@pytest.mark.parametrize("header", [None, "", "soon", "-1", "1.5", "Fri, 31 Dec 1999 23:59:59 GMT", "9" * 99])
def test_an_invalid_retry_after_is_ignored(header: str | None, client: Client, server: FakeServer) -> None:
    server.script = [Response(503, b"", retry_after=header)] * 3
    with pytest.raises(ServerUnreachable) as caught:
        client.open()
    assert caught.value.retry_after is None
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "ending",
    [Response(500, b""), Response(504, b""), ServerUnreachable("no answer within 10 seconds")],
    ids=["500", "504", "timeout"],
)
def test_a_permanent_failure_is_not_retried(ending: Response | Exception, client: Client, server: FakeServer) -> None:
    server.script = [ending]
    with pytest.raises(ServerUnreachable):
        client.open()
    assert len(server.requests) == 1


def test_an_untrusted_answer_is_not_retried(client: Client, server: FakeServer) -> None:
    server.key = SigningKey()
    with pytest.raises(UntrustedAnswer):
        client.open()
    assert len(server.requests) == 1


def test_the_answer_to_an_earlier_try_does_not_count_for_the_next(client: Client, server: FakeServer) -> None:
    late: list[Response] = []

    def lose(request: dict[str, Any]) -> ServerUnreachable:
        late.append(server.genuine(request))
        return broken()

    server.script = [lose, lambda _request: late[0]]
    with pytest.raises(UntrustedAnswer, match="nonce"):
        client.open()


def test_a_busy_server_and_a_missing_one_have_different_messages(client: Client, server: FakeServer) -> None:
    server.script = [Response(503, b"")] * 3
    with pytest.raises(ServerUnreachable) as busy:
        client.open()
    server.script = [broken() for _ in range(3)]
    with pytest.raises(ServerUnreachable) as missing:
        client.open()
    assert "繁忙" in busy.value.message
    assert "网络" in missing.value.message
