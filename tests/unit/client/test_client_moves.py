"""What programs see while the server moves: it answers 503 with Retry-After for a minute (docs/client.md)."""

from collections.abc import Callable
from typing import Any

import pytest
from kadun import Client, ServerUnreachable, retries
from kadun.responses import Response
from kadun.retries import RetryPolicy

from tests.support.client.fake_server import NOW, FakeServer
from tests.support.client.offline import MakeClient, at, unplug

GAP_SECONDS = 60


class Jitter:
    """Randomness that is always the least, or the most."""

    def __init__(self, choose: Callable[[float, float], float]) -> None:
        self.uniform = choose


@pytest.fixture(params=[min, max], ids=["least jitter", "most jitter"], autouse=True)
def _jitter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_random", Jitter(request.param))


@pytest.fixture
def moving(server: FakeServer, pauses: list[float]) -> FakeServer:
    """A server that nginx answers for until the gap is over; answers take no time."""

    def answer(request: dict[str, Any]) -> Response:
        return server.genuine(request) if sum(pauses) >= GAP_SECONDS else Response(503, b"{}", retry_after="5")

    server.script = [answer] * 99
    return server


@pytest.mark.usefixtures("moving")
def test_with_the_default_policy_a_call_ends_after_a_few_seconds(client: Client, pauses: list[float]) -> None:
    with pytest.raises(ServerUnreachable) as caught:
        client.open()
    assert caught.value.retry_after == 5
    assert 10 < sum(pauses) < 12


@pytest.mark.usefixtures("moving")
def test_eight_tries_ride_through_the_gap(make_client: MakeClient, pauses: list[float]) -> None:
    client = make_client(retry_policy=RetryPolicy(tries=8, sleep=pauses.append))
    assert client.open().accepted
    assert GAP_SECONDS <= sum(pauses) < 2 * GAP_SECONDS


def test_eight_tries_end_after_two_minutes_at_most(
    make_client: MakeClient, server: FakeServer, pauses: list[float]
) -> None:
    server.script = [Response(503, b"{}", retry_after="5")] * 8
    client = make_client(retry_policy=RetryPolicy(tries=8, sleep=pauses.append))
    with pytest.raises(ServerUnreachable):
        client.open()
    assert GAP_SECONDS < sum(pauses) < 2 * GAP_SECONDS


def test_a_call_of_a_core_function_ends_at_once(client: Client, moving: FakeServer, pauses: list[float]) -> None:
    with pytest.raises(ServerUnreachable) as caught:
        client.execute("f", {})
    assert (len(moving.requests), pauses, caught.value.sent) == (1, [], True)


def test_where_the_vendor_allows_it_the_last_accepted_verdict_stands_in(
    start: MakeClient, server: FakeServer, pauses: list[float]
) -> None:
    server.tweak = at(NOW)
    start().open()
    unplug(server, Response(503, b"{}", retry_after="5"))
    assert start().open().offline
    assert 10 < sum(pauses) < 12
