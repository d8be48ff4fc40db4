"""When the client asks again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from kadun import Client, KadunError, ServerUnreachable, UntrustedAnswer, retries
from kadun.responses import Response
from kadun.retries import RetryPolicy

from tests.support.client.offline import refused
from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.client.fake_server import FakeServer
    from tests.support.client.offline import MakeClient


def broken() -> ServerUnreachable:
    return ServerUnreachable("ConnectionResetError", passing=True)


@for_each("failures", [[Response(429, b"<html>busy</html>"), Response(502, b"")], [Response(503, b"{}"), broken()]])
def test_a_passing_failure_is_followed_by_another_try_with_another_nonce(
    failures: list[Any], client: Client, server: FakeServer, pauses: list[float]
) -> None:
    pauses.clear()
    server.requests.clear()
    server.script = [*failures]
    assert client.open().accepted
    assert len({request["nonce"] for request in server.requests}) == 3
    assert len(pauses) == 2
    assert 0.25 <= pauses[0] <= 0.5 <= pauses[1] <= 1


def test_tries_are_bounded(client: Client, server: FakeServer, pauses: list[float]) -> None:
    server.script = [broken() for _ in range(9)]
    error = refused(client)
    assert error.detail == "ConnectionResetError"
    assert "网络" in error.message
    assert (len(server.requests), len(pauses)) == (3, 2)
    server.script = [Response(503, b"")] * 3
    assert "繁忙" in refused(client).message


def test_retry_after_is_respected_and_a_long_one_left_to_the_caller(
    client: Client, server: FakeServer, pauses: list[float]
) -> None:
    server.script = [Response(429, b"", retry_after="4")]
    client.open()
    assert len(pauses) == 1
    assert 4 < pauses.pop() <= 4.5
    server.script = [Response(429, b"", retry_after="60")]
    with pytest.raises(ServerUnreachable) as caught:
        client.open()
    assert caught.value.retry_after == 60
    assert (len(server.requests), pauses) == (3, [])


@for_each("header", [None, "", "soon", "-1", "1.5", "Fri, 31 Dec 1999 23:59:59 GMT", "9" * 99])
def test_an_invalid_retry_after_is_ignored(header: str | None, client: Client, server: FakeServer) -> None:
    server.requests.clear()
    server.script = [Response(503, b"", retry_after=header)] * 3
    with pytest.raises(ServerUnreachable) as caught:
        client.open()
    assert caught.value.retry_after is None
    assert len(server.requests) == 3


@for_each(
    "ending, error",
    [
        (Response(500, b""), ServerUnreachable),
        (Response(504, b""), ServerUnreachable),
        (ServerUnreachable("no answer within 10 seconds"), ServerUnreachable),
        (Response(200, b"<html>"), UntrustedAnswer),
    ],
)
def test_a_permanent_failure_is_not_retried(
    ending: Response | Exception, error: type[KadunError], client: Client, server: FakeServer
) -> None:
    server.requests.clear()
    server.script = [ending]
    refused(client, error)
    assert len(server.requests) == 1


def test_the_answer_to_an_earlier_try_does_not_count_for_the_next(client: Client, server: FakeServer) -> None:
    late: list[Response] = []

    def lose(request: dict[str, Any]) -> ServerUnreachable:
        late.append(server.genuine(request))
        return broken()

    server.script = [lose, lambda _request: late[0]]
    assert "nonce" in refused(client, UntrustedAnswer).detail


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

    monkeypatch.setattr(retries, "_random", SimpleNamespace(uniform=choose))  # always the least, or the most
    server.script = [answer] * 99
    refused(make_client())
    assert 10 < sum(pauses) < 12
    pauses.clear()
    assert make_client(retry_policy=RetryPolicy(tries=8, sleep=pauses.append)).open().accepted
    assert 60 <= sum(pauses) < 120
