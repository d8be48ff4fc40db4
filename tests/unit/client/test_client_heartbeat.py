"""The heartbeat on a simulated clock: when it asks, what it reports, and what ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from kadun import CardRejected, Client, Heartbeat, KadunError, ServerUnreachable, UntrustedAnswer
from kadun.responses import Response

from tests.support.client.fake_server import NOW, FakeServer, Tweak, problem, reject, setting
from tests.support.client.offline import MakeClient, no_network
from tests.support.client.timing import heartbeat_threads, wait_until

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
        self.requests = 0  # of the heartbeat

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
Then = Callable[[Tweak], object]


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch, client: Client, server: FakeServer) -> Simulate:
    """Run a heartbeat on a simulated clock until it ends, or for a number of beats, while the server answers so.

    With `opened`, the program was opened before, by a verdict with these claims.
    """

    def run(
        *answers: object, beats: int = 100, opened: Tweak | None = None, client: Client = client, **settings: Any
    ) -> Timeline:
        timeline = Timeline(beats)
        callbacks = {"on_rejected": timeline.rejected.append, "on_unreachable": timeline.unreachable.append}
        if opened:
            server.tweak = opened
            settings["verdict"] = client.open()
        server.script = [*answers]
        server.requests.clear()
        monkeypatch.setattr("kadun.heartbeat.time", timeline)
        heartbeat = Heartbeat(client, **{"interval_seconds": INTERVAL, **callbacks, **settings})
        heartbeat._stopped = timeline  # noqa: SLF001 - the only way to simulate its waits
        heartbeat.start()
        wait_until(lambda: not heartbeat_threads())
        assert not heartbeat.running
        timeline.requests = len(server.requests)
        return timeline

    return run


@pytest.fixture
def then(server: FakeServer) -> Then:
    """Make a genuine answer with other claims, which the following answers have, too."""

    def then(tweak: Tweak) -> Callable[[dict[str, Any]], Response]:
        def answer(request: dict[str, Any]) -> Response:
            server.tweak = tweak
            return server.genuine(request)

        return answer

    return then


@pytest.mark.parametrize("code", ["CARD_FROZEN", "CARD_EXPIRED", "CLIENT_MISMATCH", "CARD_NOT_FOUND"])
def test_a_rejected_card_is_reported_once(code: str, simulate: Simulate, then: Then) -> None:
    timeline = simulate(then(setting()), then(setting()), then(reject(code)))
    (error,) = timeline.rejected
    assert (error.code, error.reference) == (code, "REF45678")
    assert "参考号" in error.message
    assert (timeline.requests, timeline.unreachable) == (3, [])


A_PAGE = Response(200, b"<html>sign in</html>")
UNFORESEEN = ZeroDivisionError("unforeseen")


@pytest.mark.parametrize(
    ("seconds_left", "failure"),
    [
        (60, no_network),  # before the first regular beat
        (600, no_network),
        (600, A_PAGE),
        (600, Response(429, b"", retry_after="999999")),
        (600, problem(404, "NOT_FOUND")),
        (600, UNFORESEEN),
    ],
)
@pytest.mark.parametrize(("language", "message"), [("zh", "卡密已过期，请续费"), ("en", "This card has expired.")])
def test_an_expiry_is_reported_even_if_the_server_is_blocked(
    seconds_left: int, failure: object, language: str, message: str, make_client: MakeClient, simulate: Simulate
) -> None:
    """The expiry is measured from the server's own times in its last verdict, not by this machine's wall clock."""
    client = make_client(language=language, clock=lambda: 0.0)
    timeline = simulate(*[failure] * 1000, opened=setting(card_expires_at=NOW + seconds_left), client=client)
    (error,) = timeline.rejected
    assert (type(error), error.code, error.reference) == (CardRejected, "CARD_EXPIRED", "")
    assert error.message.startswith(message)
    assert seconds_left <= timeline.now <= seconds_left + 1


@pytest.mark.parametrize("expires", [NOW + 86_400, None])
def test_a_valid_card_survives_every_outage(expires: int | None, simulate: Simulate) -> None:
    timeline = simulate(*[no_network] * 1000, beats=50, opened=setting(card_expires_at=expires))
    assert (len(timeline.unreachable), timeline.rejected) == (50, [])
    assert all(0.9 * 60 <= pause <= 60 for pause in timeline.pauses[1:])  # at most a minute after a failure


@pytest.mark.parametrize("learned_from", ["the opening", "a beat"])
def test_it_asks_when_the_card_expires(learned_from: str, simulate: Simulate, then: Then) -> None:
    """Before the interval has passed, and a second after the expiry, or the server might still accept the card."""
    expiring, expired = setting(card_expires_at=NOW + 60), then(reject("CARD_EXPIRED"))
    if learned_from == "the opening":
        timeline = simulate(expired, opened=expiring)
    else:
        timeline = simulate(then(expiring), expired)
    assert [error.code for error in timeline.rejected] == ["CARD_EXPIRED"]
    assert timeline.pauses[-1] == 61
    assert timeline.requests == len(timeline.pauses)


def test_an_extended_card_stays_valid(simulate: Simulate, then: Then) -> None:
    extended = then(setting(card_expires_at=None))
    timeline = simulate(extended, beats=5, opened=setting(card_expires_at=NOW + 60))
    assert timeline.pauses[0] == 61
    assert all(0.9 * INTERVAL <= pause <= INTERVAL for pause in timeline.pauses[1:])  # the old expiry is void
    assert timeline.rejected == []


def test_the_verdict_of_the_opening_replaces_the_first_beat(simulate: Simulate) -> None:
    timeline = simulate(beats=0, opened=setting())
    (pause,) = timeline.pauses
    assert 0.9 * INTERVAL <= pause <= INTERVAL
    assert timeline.requests == 0


@pytest.mark.parametrize(
    ("failure", "error"),
    [(no_network, ServerUnreachable), (A_PAGE, UntrustedAnswer), (Response(500, b""), ServerUnreachable)],
)
def test_an_outage_is_reported_and_survived(failure: object, error: type[KadunError], simulate: Simulate) -> None:
    timeline = simulate(*[failure] * 3, beats=6)
    assert [type(reported) for reported in timeline.unreachable] == [error] * 3
    assert (timeline.requests, timeline.rejected) == (6, [])


@pytest.mark.parametrize(("asked_for", "pause"), [(200, 200), (301, INTERVAL), (999_999, INTERVAL)])
def test_retry_after_delays_a_beat_by_the_interval_at_most(asked_for: int, pause: float, simulate: Simulate) -> None:
    """It is not signed: a forged one must not silence the heartbeat for days."""
    timeline = simulate(Response(503, b"", retry_after=str(asked_for)), beats=1)
    (failure,) = timeline.unreachable
    assert isinstance(failure, ServerUnreachable)
    assert failure.retry_after == asked_for
    assert timeline.pauses == [0, pause]


def test_retry_after_never_delays_a_beat_past_the_expiry(simulate: Simulate) -> None:
    busy, opened = Response(503, b"", retry_after="999999"), setting(card_expires_at=NOW + INTERVAL + 60)
    first, second = simulate(busy, beats=1, opened=opened).pauses
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
    raised: BaseException, level: str, caplog: pytest.LogCaptureFixture, simulate: Simulate, then: Then
) -> None:
    def fail(_error: KadunError) -> None:
        raise raised

    answers = (no_network, then(setting()), then(reject("CARD_FROZEN")))
    assert simulate(*answers, on_rejected=fail, on_unreachable=fail).requests == 3
    assert logged(caplog) == [("kadun", level, raised)] * 2


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, BaseException | None]]:
    return [(record.name, record.levelname, record.exc_info[1]) for record in caplog.records if record.exc_info]


def test_an_error_of_the_sdk_is_logged_and_survived(caplog: pytest.LogCaptureFixture, simulate: Simulate) -> None:
    timeline = simulate(UNFORESEEN, beats=3)
    assert (timeline.requests, timeline.rejected, timeline.unreachable) == (3, [], [])
    assert logged(caplog) == [("kadun", "ERROR", UNFORESEEN)]


def test_it_works_without_callbacks(simulate: Simulate, then: Then) -> None:
    assert simulate(no_network, then(reject("CARD_FROZEN")), on_rejected=None, on_unreachable=None).requests == 2
