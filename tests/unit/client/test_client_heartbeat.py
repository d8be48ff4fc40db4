"""The heartbeat on a simulated clock: when it asks, what it reports, and what ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from kadun import CardRejected, Client, Heartbeat, KadunError, ServerUnreachable, UntrustedAnswer
from kadun.responses import Response

from tests.support.client.fake_server import NOW, FakeServer, Tweak, problem, reject, setting
from tests.support.client.timing import heartbeat_threads, wait_until

MakeClient = Callable[..., Client]
INTERVAL = 300


class Timeline(threading.Event):
    """A heartbeat's stop signal on a simulated clock: each wait ends at once. After `beats` more it is set.

    It also collects the errors that the heartbeat reports.
    """

    def __init__(self, beats: int) -> None:
        super().__init__()
        self.beats = beats
        self.now = 0.0
        self.pauses: list[float] = []
        self.rejected: list[CardRejected] = []
        self.unreachable: list[KadunError] = []

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            assert timeout is not None
            self.pauses.append(timeout)
            self.now += timeout
            if len(self.pauses) > self.beats:
                self.set()
        return self.is_set()

    def monotonic(self) -> float:
        return self.now


Simulate = Callable[..., Timeline]


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch, client: Client) -> Simulate:
    """Run a heartbeat on a simulated clock until it ends, or for a number of beats."""

    def run(beats: int = 100, client: Client = client, **settings: Any) -> Timeline:
        timeline = Timeline(beats)
        callbacks = {"on_rejected": timeline.rejected.append, "on_unreachable": timeline.unreachable.append}
        monkeypatch.setattr("kadun.heartbeat.time", timeline)
        heartbeat = Heartbeat(client, **{"interval_seconds": INTERVAL, **callbacks, **settings})
        heartbeat._stopped = timeline  # noqa: SLF001 - the only way to simulate its waits
        heartbeat.start()
        wait_until(lambda: not heartbeat_threads())
        assert not heartbeat.running
        return timeline

    return run


@pytest.mark.parametrize("code", ["CARD_FROZEN", "CARD_EXPIRED", "CLIENT_MISMATCH", "CARD_NOT_FOUND"])
def test_a_rejected_card_is_reported_once(code: str, server: FakeServer, simulate: Simulate) -> None:
    server.script = [server.genuine, server.genuine, then(server, reject(code))]
    timeline = simulate()
    (error,) = timeline.rejected
    assert (error.code, error.reference) == (code, "REF45678")
    assert "参考号" in error.message
    assert (len(server.requests), timeline.unreachable) == (3, [])


def then(server: FakeServer, tweak: Tweak) -> Callable[[dict[str, Any]], Response]:
    """Return a genuine answer with other claims, which the following answers have, too."""

    def answer(request: dict[str, Any]) -> Response:
        server.tweak = tweak
        return server.genuine(request)

    return answer


def fail_from_now_on(server: FakeServer, failure: object) -> None:
    server.genuine = lambda _request: failure  # type: ignore[method-assign,assignment,return-value]


NO_ROUTE = ServerUnreachable("no route")
A_PAGE = Response(200, b"<html>sign in</html>")
UNFORESEEN = ZeroDivisionError("unforeseen")


@pytest.mark.parametrize(
    "failure", [NO_ROUTE, A_PAGE, Response(429, b"", retry_after="999999"), problem(404, "NOT_FOUND"), UNFORESEEN]
)
@pytest.mark.parametrize(("language", "message"), [("zh", "卡密已过期，请续费"), ("en", "This card has expired.")])
def test_an_expiry_is_reported_even_if_the_server_is_blocked(
    language: str, message: str, failure: object, make_client: MakeClient, server: FakeServer, simulate: Simulate
) -> None:
    """The expiry is measured from the server's own times in its last verdict, not by this machine's wall clock."""
    server.tweak = setting(card_expires_at=NOW + 600)
    client = make_client(language=language, clock=lambda: 0.0)
    verdict = client.open()
    fail_from_now_on(server, failure)
    timeline = simulate(client=client, verdict=verdict)
    (error,) = timeline.rejected
    assert (type(error), error.code, error.reference) == (CardRejected, "CARD_EXPIRED", "")
    assert error.message.startswith(message)
    assert 600 <= timeline.now <= 601


def test_an_expiry_is_reported_before_the_first_regular_beat(
    client: Client, server: FakeServer, simulate: Simulate
) -> None:
    server.tweak = setting(card_expires_at=NOW + 60)
    verdict = client.open()
    fail_from_now_on(server, NO_ROUTE)
    timeline = simulate(verdict=verdict)
    assert timeline.pauses == [61]
    assert [error.reference for error in timeline.rejected] == [""]
    assert len(timeline.unreachable) == 1


@pytest.mark.parametrize("expires", [NOW + 86_400, None])
def test_a_valid_card_survives_every_outage(
    expires: int | None, client: Client, server: FakeServer, simulate: Simulate
) -> None:
    server.tweak = setting(card_expires_at=expires)
    verdict = client.open()
    fail_from_now_on(server, NO_ROUTE)
    timeline = simulate(beats=50, verdict=verdict)
    assert (len(timeline.unreachable), timeline.rejected) == (50, [])
    assert all(0.9 * 60 <= pause <= 60 for pause in timeline.pauses[1:])  # at most a minute after a failure


@pytest.mark.parametrize("learned_from", ["the opening", "a beat"])
def test_it_asks_when_the_card_expires(
    learned_from: str, client: Client, server: FakeServer, simulate: Simulate
) -> None:
    """Before the interval has passed, and a second after the expiry, or the server might still accept the card."""
    server.script = [then(server, setting(card_expires_at=NOW + 60)), then(server, reject("CARD_EXPIRED"))]
    verdict = client.open() if learned_from == "the opening" else None
    timeline = simulate(verdict=verdict)
    assert [error.code for error in timeline.rejected] == ["CARD_EXPIRED"]
    assert timeline.pauses == ([61] if verdict else [0, 61])
    assert len(server.requests) == 2


def test_an_extended_card_stays_valid(client: Client, server: FakeServer, simulate: Simulate) -> None:
    server.tweak = setting(card_expires_at=NOW + 60)
    verdict = client.open()
    server.tweak = setting(card_expires_at=None)
    timeline = simulate(beats=5, verdict=verdict)
    assert timeline.pauses[0] == 61
    assert all(0.9 * INTERVAL <= pause <= INTERVAL for pause in timeline.pauses[1:])  # the old expiry is void
    assert timeline.rejected == []


def test_the_verdict_of_the_opening_replaces_the_first_beat(
    client: Client, server: FakeServer, simulate: Simulate
) -> None:
    (pause,) = simulate(beats=0, verdict=client.open()).pauses
    assert 0.9 * INTERVAL <= pause <= INTERVAL
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("failure", "error"),
    [(NO_ROUTE, ServerUnreachable), (A_PAGE, UntrustedAnswer), (Response(500, b""), ServerUnreachable)],
)
def test_a_network_outage_is_reported_and_survived(
    failure: object, error: type[KadunError], server: FakeServer, simulate: Simulate
) -> None:
    server.script = [failure] * 3
    timeline = simulate(beats=6)
    assert [type(reported) for reported in timeline.unreachable] == [error] * 3
    assert (len(server.requests), timeline.rejected) == (6, [])


@pytest.mark.parametrize(("asked_for", "pause"), [(200, 200), (301, INTERVAL), (999_999, INTERVAL)])
def test_retry_after_delays_the_next_beat_by_the_interval_at_most(
    asked_for: int, pause: float, server: FakeServer, simulate: Simulate
) -> None:
    """It is not signed: a forged one must not silence the heartbeat for days."""
    server.script = [Response(503, b"", retry_after=str(asked_for))]
    timeline = simulate(beats=1)
    (failure,) = timeline.unreachable
    assert isinstance(failure, ServerUnreachable)
    assert failure.retry_after == asked_for
    assert timeline.pauses == [0, pause]


def test_retry_after_never_delays_a_beat_past_the_expiry(
    client: Client, server: FakeServer, simulate: Simulate
) -> None:
    server.tweak = setting(card_expires_at=NOW + INTERVAL + 60)
    verdict = client.open()
    server.script = [Response(503, b"", retry_after="999999")]
    first, second = simulate(beats=1, verdict=verdict).pauses
    assert first + second == pytest.approx(INTERVAL + 61)


@pytest.mark.parametrize(
    ("raised", "level"),
    [
        (RuntimeError("a fault of the program"), "ERROR"),
        (SystemExit("卡密失效"), "WARNING"),
        (KeyboardInterrupt(), "WARNING"),
        (GeneratorExit(), "WARNING"),
    ],
)
def test_an_exception_in_a_callback_is_logged_and_the_heartbeat_continues(
    raised: BaseException, level: str, server: FakeServer, caplog: pytest.LogCaptureFixture, simulate: Simulate
) -> None:
    def fail(_error: KadunError) -> None:
        raise raised

    server.script = [NO_ROUTE, server.genuine, then(server, reject("CARD_FROZEN"))]
    simulate(on_rejected=fail, on_unreachable=fail)
    assert len(server.requests) == 3
    assert logged(caplog) == [("kadun", level, raised)] * 2


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, BaseException | None]]:
    return [(record.name, record.levelname, record.exc_info[1]) for record in caplog.records if record.exc_info]


def test_an_error_of_the_sdk_is_logged_and_the_heartbeat_continues(
    server: FakeServer, caplog: pytest.LogCaptureFixture, simulate: Simulate
) -> None:
    server.script = [UNFORESEEN]
    timeline = simulate(beats=3)
    assert (len(server.requests), timeline.rejected, timeline.unreachable) == (3, [], [])
    assert logged(caplog) == [("kadun", "ERROR", UNFORESEEN)]


def test_it_works_without_callbacks(server: FakeServer, simulate: Simulate) -> None:
    server.script = [NO_ROUTE, then(server, reject("CARD_FROZEN"))]
    simulate(on_rejected=None, on_unreachable=None)
    assert len(server.requests) == 2
