"""When the client asks again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kadun import Client, ServerUnreachable, UntrustedAnswer, retries
from kadun.responses import Response
from kadun.retries import RetryPolicy

from tests.support.client.fake_server import FakeServer, SigningKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.client.offline import MakeClient


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


class Jitter:
    """Randomness that is always the least, or the most."""

    def __init__(self, choose: Callable[[float, float], float]) -> None:
        self.uniform = choose


@pytest.mark.parametrize("choose", [min, max])
def test_eight_tries_ride_through_the_minute_of_a_move_and_the_default_ends_after_seconds(
    choose: Callable[[float, float], float],
    make_client: MakeClient,
    server: FakeServer,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As docs/client.md promises: while the server moves, nginx answers 503 with Retry-After for a minute."""

    def answer(request: dict[str, Any]) -> Response:
        return server.genuine(request) if sum(pauses) >= 60 else Response(503, b"{}", retry_after="5")

    monkeypatch.setattr(retries, "_random", Jitter(choose))
    server.script = [answer] * 99
    with pytest.raises(ServerUnreachable) as caught:
        make_client().open()
    assert caught.value.retry_after == 5
    assert 10 < sum(pauses) < 12
    pauses.clear()
    assert make_client(retry_policy=RetryPolicy(tries=8, sleep=pauses.append)).open().accepted
    assert 60 <= sum(pauses) < 120
