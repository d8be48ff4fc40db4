"""The heartbeat: on a simulated clock when it asks and what it reports; in its thread how it starts and stops."""
# Owns client-heartbeat.

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from kadun import CardRejected, Client, Heartbeat, KadunError, ServerUnreachable, UntrustedAnswer
from kadun.responses import Response
from kadun.retries import RetryPolicy

from tests.support.client import fakes
from tests.support.client.fakes import CARD, HARDWARE, NOW, FakeServer, MakeClient, no_network, pinned, setting
from tests.support.client.local_http import LONG_SECONDS, SOON_SECONDS, closed_port, threads, wait_until
from tests.support.tables import for_each

INTERVAL = 300
FROZEN = fakes.reject("CARD_FROZEN")
A_PAGE = Response(200, b"<html>sign in</html>")
UNFORESEEN = ZeroDivisionError("unforeseen")


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


def wait_for_its_end() -> None:
    wait_until(lambda: not threads("kadun-heartbeat"))


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, server: FakeServer) -> Simulate:
    """Run a heartbeat on a simulated clock until it ends, or for a number of beats, while the server answers so.

    With `opened`, the program was opened before, by a verdict with these claims.
    """

    def run(*answers: object, beats: int = 100, opened: fakes.Tweak | None = None, **settings: Any) -> Timeline:
        client, timeline = make_client(language="en", clock=lambda: 0.0), Timeline(beats)
        callbacks = {"on_rejected": timeline.rejected.append, "on_unreachable": timeline.unreachable.append}
        server.script = []
        if opened:
            server.tweak = opened
            settings["verdict"] = client.open()
        server.script = [*answers]
        server.requests.clear()
        monkeypatch.setattr("kadun.heartbeat.time", timeline)
        heartbeat = Heartbeat(client, **{"interval_seconds": INTERVAL, **callbacks, **settings})
        heartbeat._stopped = timeline  # noqa: SLF001 - the only way to simulate its waits
        heartbeat.start()
        wait_for_its_end()
        assert not heartbeat.running
        timeline.requests = len(server.requests)
        return timeline

    return run


def test_a_rejected_card_is_reported_once(simulate: Simulate, server: FakeServer) -> None:
    timeline = simulate(server.saying(setting()), server.saying(setting()), server.saying(FROZEN))
    (error,) = timeline.rejected
    assert (error.code, error.reference) == ("CARD_FROZEN", "REF45678")
    assert "REF45678" in error.message
    assert (timeline.requests, timeline.unreachable) == (3, [])
    assert [request["function"] for request in server.requests] == ["心跳"] * 3


@for_each(
    "seconds_left, failure",
    [
        (60, no_network),  # before the first regular beat
        *((600, failure) for failure in (no_network, A_PAGE, Response(429, b"", retry_after="999999"), UNFORESEEN)),
    ],
)
def test_an_expiry_is_reported_even_if_the_server_is_blocked(
    seconds_left: int, failure: object, simulate: Simulate
) -> None:
    """The expiry is measured from the server's own times in its last verdict, not by this machine's wall clock."""
    timeline = simulate(*[failure] * 1000, opened=setting(card_expires_at=NOW + seconds_left))
    (error,) = timeline.rejected
    assert (type(error), error.code, error.reference) == (CardRejected, "CARD_EXPIRED", "")
    assert error.message.startswith("This card has expired.")
    assert seconds_left <= timeline.now <= seconds_left + 1


@for_each(
    "expires, failure, error",
    [(NOW + 86_400, no_network, ServerUnreachable), (None, A_PAGE, UntrustedAnswer)],
)
def test_a_valid_card_survives_every_outage(
    expires: int | None, failure: object, error: type[KadunError], simulate: Simulate
) -> None:
    timeline = simulate(*[failure] * 1000, beats=50, opened=setting(card_expires_at=expires))
    assert timeline.requests == 50  # the verdict of the opening replaces the first beat
    assert 0.9 * INTERVAL <= timeline.pauses[0] <= INTERVAL
    assert ([type(reported) for reported in timeline.unreachable], timeline.rejected) == ([error] * 50, [])
    assert all(0.9 * 60 <= pause <= 60 for pause in timeline.pauses[1:])  # at most a minute after a failure


def test_it_asks_when_the_card_expires_and_an_extended_card_stays_valid(simulate: Simulate, server: FakeServer) -> None:
    """Before the interval has passed, and a second after the expiry, or the server might still accept the card."""
    expiring, expired = setting(card_expires_at=NOW + 60), server.saying(fakes.reject("CARD_EXPIRED"))
    after_the_opening = simulate(expired, opened=expiring)
    for timeline in (after_the_opening, simulate(server.saying(expiring), expired)):
        assert [error.code for error in timeline.rejected] == ["CARD_EXPIRED"]
        assert timeline.pauses[-1] == 61
        assert timeline.requests == len(timeline.pauses)
    extended = simulate(server.saying(setting(card_expires_at=None)), beats=5, opened=expiring)
    assert (extended.pauses[0], extended.rejected) == (61, [])
    assert all(0.9 * INTERVAL <= pause <= INTERVAL for pause in extended.pauses[1:])  # the old expiry is void


def test_retry_after_delays_a_beat_by_the_interval_at_most(simulate: Simulate) -> None:
    """It is not signed: a forged one must not silence the heartbeat for days."""
    for asked_for, pause in ((200, 200), (301, INTERVAL), (999_999, INTERVAL)):
        timeline = simulate(Response(503, b"", retry_after=str(asked_for)), beats=1)
        (failure,) = timeline.unreachable
        assert isinstance(failure, ServerUnreachable)
        assert (failure.retry_after, timeline.pauses) == (asked_for, [0, pause])


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, BaseException | None]]:
    return [(record.name, record.levelname, record.exc_info[1]) for record in caplog.records if record.exc_info]


@for_each(
    "raised, level",
    [
        (RuntimeError("a fault of the program"), "ERROR"),
        *((ending, "WARNING") for ending in (SystemExit("卡密失效"), KeyboardInterrupt(), GeneratorExit())),
    ],
)
def test_an_exception_in_a_callback_is_logged_and_the_heartbeat_continues(
    raised: BaseException, level: str, caplog: pytest.LogCaptureFixture, simulate: Simulate, server: FakeServer
) -> None:
    def fail(_error: KadunError) -> None:
        raise raised

    caplog.clear()
    answers = (no_network, server.saying(setting()), server.saying(FROZEN))
    assert simulate(*answers, on_rejected=fail, on_unreachable=fail).requests == 3
    assert logged(caplog) == [("kadun", level, raised)] * 2


def test_an_error_of_the_sdk_is_logged_and_survived(caplog: pytest.LogCaptureFixture, simulate: Simulate) -> None:
    timeline = simulate(UNFORESEEN, beats=3)
    assert (timeline.requests, timeline.rejected, timeline.unreachable) == (3, [], [])
    assert logged(caplog) == [("kadun", "ERROR", UNFORESEEN)]


class Hanging:
    """An answer that comes once it is released."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked, self.released = threading.Event(), threading.Event()

    def __call__(self, _request: dict[str, Any]) -> object:
        self.asked.set()
        self.released.wait()
        return self.answer


def test_it_starts_once_and_stops_at_once_however_long_the_interval(client: Client, server: FakeServer) -> None:
    heartbeat = Heartbeat(client, interval_seconds=3600)
    assert not heartbeat.running
    with heartbeat:
        with pytest.raises(RuntimeError):
            heartbeat.start()
        wait_until(lambda: server.requests)
    assert not heartbeat.running
    wait_for_its_end()


def test_it_stops_though_a_beat_hangs_and_calls_no_callback(make_client: MakeClient, server: FakeServer) -> None:
    hanging, reported = Hanging(ServerUnreachable("no route")), list[KadunError]()
    server.script = [hanging]
    with Heartbeat(make_client(timeout_seconds=LONG_SECONDS), on_unreachable=reported.append):
        assert hanging.asked.wait(SOON_SECONDS)
        begun = time.monotonic()
    assert time.monotonic() - begun < SOON_SECONDS
    assert threads("kadun-heartbeat")  # the beat still hangs
    hanging.released.set()
    wait_for_its_end()
    assert (reported, len(server.requests)) == ([], 1)


def test_unbinding_waits_for_a_beat_which_is_not_sent_again_but_no_longer_than_the_timeout(
    make_client: MakeClient, server: FakeServer
) -> None:
    """A beat after `unbind` would bind the card to this machine again."""
    released_before = list[bool]()
    for timeout_seconds in (LONG_SECONDS, 0.01):
        busy, client = Hanging(Response(503, b"")), make_client(timeout_seconds=timeout_seconds)

        def unbind(_request: dict[str, Any], busy: Hanging = busy) -> Response:
            released_before.append(busy.released.is_set())
            return fakes.card_status(bound=False)

        server.script = [busy, unbind]
        with Heartbeat(client):
            assert busy.asked.wait(SOON_SECONDS)
        if timeout_seconds == LONG_SECONDS:
            threading.Timer(0.1, busy.released.set).start()
        assert not client.unbind().bound
        busy.released.set()
        wait_for_its_end()
    assert released_before == [True, False]
    assert server.paths == ["/v1/verify", "/v1/self/unbind"] * 2


def test_stopping_ends_the_pause_before_a_retry(make_client: MakeClient, server: FakeServer) -> None:
    server.script = [Response(503, b"")]
    with Heartbeat(make_client(retry_policy=RetryPolicy(first_pause_seconds=3600))):
        wait_until(lambda: server.requests)
    wait_for_its_end()
    assert len(server.requests) == 1


def test_invalid_settings_are_refused(client: Client) -> None:
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="interval_seconds"):
            Heartbeat(client, interval_seconds=seconds)
    for function in ("", "x" * 65, "打开程序"):
        with pytest.raises(ValueError, match="function"):
            Heartbeat(client, function=function)


def test_a_running_heartbeat_does_not_keep_the_program_alive_and_prints_nothing(server: FakeServer) -> None:
    with closed_port() as address:
        program = f"""
import threading
from kadun import Client, Heartbeat
client = Client("http://{address}", {pinned(server.key)!r}, {CARD!r}, hardware={HARDWARE!r})
failed = threading.Event()

def fail(error):
    failed.set()
    1 / 0

heartbeat = Heartbeat(client, interval_seconds=0.001, on_unreachable=fail)
heartbeat.start()
assert failed.wait({SOON_SECONDS}) and heartbeat.running
"""
        assert fakes.python(program) == ""
