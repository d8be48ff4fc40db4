"""The heartbeat: reports a card that is no longer valid, and never harms the program.

Where the length of a pause matters, time is simulated: see `Timeline`.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kadun
import pytest
from kadun import CardRejected, Client, Heartbeat, KadunError, ServerUnreachable, UntrustedAnswer
from kadun.responses import Response
from kadun.transport import HttpTransport

from tests.support.client.fake_server import CARD, HARDWARE, NOW, FakeServer, Tweak, pinned, problem, reject, setting
from tests.support.client.local_http import forged, serving

MakeClient = Callable[..., Client]
SOON = 60  # the limit for an awaited event, far above what a loaded machine needs
INTERVAL = 300
SOURCE = Path(kadun.__file__).parent.parent


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
        wait_until(lambda: not heartbeat.running and not threads())
        return timeline

    return run


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "kadun-heartbeat"]


def run_program(server: FakeServer, body: str) -> tuple[int, bytes, bytes]:
    """Run a program with a client of an unreachable server; return its exit status and output."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, but not listening
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        program = f"""
import os, time
from kadun import Client, Heartbeat
client = Client({url!r}, {pinned(server.key)!r}, {CARD!r}, hardware={HARDWARE!r})
{body}
"""
        command = [sys.executable, "-W", "error", "-c", program]
        environment = {"PYTHONPATH": str(SOURCE), "NO_PROXY": "*"}
        done = subprocess.run(command, env=environment, capture_output=True, timeout=SOON, check=False)
    return done.returncode, done.stdout, done.stderr


def test_it_asks_periodically_under_its_name(client: Client, server: FakeServer) -> None:
    with Heartbeat(client, interval_seconds=0.01):
        wait_until(lambda: len(server.requests) >= 3)
    assert {request["function"] for request in server.requests} == {"心跳"}
    assert len({request["nonce"] for request in server.requests}) == len(server.requests)


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


FAILURES = {
    "no route": ServerUnreachable("no route"),
    "a page": Response(200, b"<html>sign in</html>"),
    "retry after eleven days": Response(429, b"", retry_after="999999"),
    "a refusal": problem(404, "NOT_FOUND"),
    "an error of the SDK": ZeroDivisionError("unforeseen"),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("language", ["zh", "en"])
def test_an_expiry_is_reported_even_if_the_server_is_blocked(
    language: str, failure: object, make_client: MakeClient, server: FakeServer, simulate: Simulate
) -> None:
    """The expiry is measured from the server's own times in its last verdict, not by this machine's wall clock."""
    server.tweak = setting(card_expires_at=NOW + 600)
    client = make_client(language=language, clock=lambda: 0.0)
    verdict = client.open()
    fail_from_now_on(server, failure)
    timeline = simulate(client=client, verdict=verdict)
    (error,) = timeline.rejected
    assert (type(error), error.code, error.reference) == (CardRejected, "CARD_EXPIRED", "")
    assert error.message == {"zh": "卡密已过期，请续费", "en": "This card has expired. Please renew it"}[language]
    assert 600 <= timeline.now <= 601


def test_an_expiry_is_reported_before_the_first_regular_beat(
    client: Client, server: FakeServer, simulate: Simulate
) -> None:
    server.tweak = setting(card_expires_at=NOW + 60)
    verdict = client.open()
    fail_from_now_on(server, ServerUnreachable("no route"))
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
    fail_from_now_on(server, ServerUnreachable("no route"))
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
    [
        (ServerUnreachable("no route"), ServerUnreachable),
        (Response(200, b"<html>sign in</html>"), UntrustedAnswer),
        (Response(500, b""), ServerUnreachable),
    ],
)
def test_a_network_outage_is_reported_and_survived(
    failure: object, error: type[KadunError], server: FakeServer, simulate: Simulate
) -> None:
    server.script = [failure] * 3
    timeline = simulate(beats=6)
    assert [type(reported) for reported in timeline.unreachable] == [error] * 3
    assert (len(server.requests), timeline.rejected) == (6, [])


def test_retry_after_delays_the_next_beat(server: FakeServer, simulate: Simulate) -> None:
    server.script = [Response(429, b"", retry_after="3000")]
    timeline = simulate(beats=1)
    (failure,) = timeline.unreachable
    assert isinstance(failure, ServerUnreachable)
    assert failure.retry_after == 3000
    assert timeline.pauses == [0, 3000]


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

    server.script = [ServerUnreachable("no route"), server.genuine, then(server, reject("CARD_FROZEN"))]
    simulate(on_rejected=fail, on_unreachable=fail)
    assert len(server.requests) == 3
    assert logged(caplog) == [("kadun", level, raised)] * 2


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, BaseException | None]]:
    return [(record.name, record.levelname, record.exc_info[1]) for record in caplog.records if record.exc_info]


def test_an_error_of_the_sdk_is_logged_and_the_heartbeat_continues(
    server: FakeServer, caplog: pytest.LogCaptureFixture, simulate: Simulate
) -> None:
    failure = ZeroDivisionError("unforeseen")
    server.script = [failure]
    timeline = simulate(beats=3)
    assert len(server.requests) == 3
    assert (timeline.rejected, timeline.unreachable) == ([], [])
    assert logged(caplog) == [("kadun", "ERROR", failure)]


def test_it_works_without_callbacks(server: FakeServer, simulate: Simulate) -> None:
    server.script = [ServerUnreachable("no route"), then(server, reject("CARD_FROZEN"))]
    simulate(on_rejected=None, on_unreachable=None)
    assert len(server.requests) == 2


def test_it_stops_at_once_however_long_the_interval(client: Client, server: FakeServer) -> None:
    with Heartbeat(client, interval_seconds=3600) as heartbeat:
        wait_until(lambda: server.requests)
    assert not heartbeat.running
    wait_until(lambda: not threads())


def test_it_stops_at_once_during_a_beat_and_calls_no_callback_afterwards(client: Client, server: FakeServer) -> None:
    asked, released = threading.Event(), threading.Event()
    reported: list[KadunError] = []

    def hang(_request: dict[str, Any]) -> ServerUnreachable:
        asked.set()
        released.wait()
        return ServerUnreachable("no route")

    server.script = [hang]
    with Heartbeat(client, on_unreachable=reported.append):
        assert asked.wait(SOON)
    assert threads()  # the beat still hangs, and `stop` did not wait for it
    released.set()
    wait_until(lambda: not threads())
    assert (reported, len(server.requests)) == ([], 1)


def test_it_may_be_stopped_from_its_own_callback(client: Client, server: FakeServer) -> None:
    beats: list[KadunError] = []
    server.script = [ServerUnreachable("no route")] * 9

    def give_up(error: KadunError) -> None:
        beats.append(error)
        heartbeat.stop()

    heartbeat = Heartbeat(client, interval_seconds=0.01, on_unreachable=give_up)
    heartbeat.start()
    wait_until(lambda: not heartbeat.running and not threads())
    assert len(beats) == 1


def test_it_starts_once(client: Client) -> None:
    heartbeat = Heartbeat(client, interval_seconds=3600)
    assert not heartbeat.running
    with heartbeat, pytest.raises(RuntimeError):
        heartbeat.start()


@pytest.mark.parametrize(
    "settings",
    [
        {"interval_seconds": 0},
        {"interval_seconds": -1},
        {"interval_seconds": float("nan")},
        {"interval_seconds": float("inf")},
        {"function": ""},
        {"function": "x" * 65},
        {"function": "打开程序"},
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, Any], client: Client) -> None:
    with pytest.raises(ValueError, match=r"interval_seconds|function"):
        Heartbeat(client, **settings)


def test_the_program_may_use_the_client_at_the_same_time(make_client: MakeClient, server: FakeServer) -> None:
    with serving(forged(server)) as local:
        client = make_client(transport=HttpTransport(local.url))
        with Heartbeat(client, interval_seconds=0.001):
            assert all(client.open().accepted and client.report("导出报表").accepted for _ in range(10))


def test_a_callback_may_end_the_program_as_the_documentation_says(server: FakeServer) -> None:
    body = f"""
Heartbeat(client, interval_seconds=0.01, on_unreachable=lambda error: os._exit(7)).start()
time.sleep({SOON})
"""
    assert run_program(server, body) == (7, b"", b"")


def test_a_running_heartbeat_does_not_keep_the_program_alive_and_prints_nothing(server: FakeServer) -> None:
    body = f"""
import threading
failed = threading.Event()

def fail(error):
    failed.set()
    1 / 0

heartbeat = Heartbeat(client, interval_seconds=0.001, on_unreachable=fail)
heartbeat.start()
assert failed.wait({SOON}) and heartbeat.running
"""
    assert run_program(server, body) == (0, b"", b"")
