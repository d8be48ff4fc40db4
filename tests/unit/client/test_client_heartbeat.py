"""The heartbeat: notices a card that is no longer good, and harms nothing."""

from __future__ import annotations

import logging
import queue
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

from tests.support.client.fake_server import CARD, HARDWARE, NOW, FakeServer, pinned, problem, reject, setting
from tests.support.client.local_http import forged, serving

MakeClient = Callable[..., Client]
SOON = 10  # seconds within which whatever is awaited must come
SOURCE = Path(kadun.__file__).parent.parent


class Told:
    """What a heartbeat called back with, for the test's own thread to wait for."""

    def __init__(self) -> None:
        self.rejected: queue.Queue[CardRejected] = queue.Queue()
        self.unreachable: queue.Queue[KadunError] = queue.Queue()

    def callbacks(self) -> dict[str, Any]:
        return {"on_rejected": self.rejected.put, "on_unreachable": self.unreachable.put}


@pytest.fixture
def told() -> Told:
    return Told()


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "kadun-heartbeat"]


def test_it_asks_periodically_under_its_name(client: Client, server: FakeServer) -> None:
    with Heartbeat(client, interval_seconds=0.01):
        wait_until(lambda: len(server.requests) >= 3)
    assert {request["function"] for request in server.requests} == {"心跳"}
    assert len({request["nonce"] for request in server.requests}) == len(server.requests)


@pytest.mark.parametrize("code", ["CARD_FROZEN", "CARD_EXPIRED", "CLIENT_MISMATCH", "CARD_NOT_FOUND"])
def test_a_rejected_card_is_reported_once(code: str, client: Client, server: FakeServer, told: Told) -> None:
    server.script = [server.genuine, server.genuine]
    server.tweak = setting()
    with Heartbeat(client, interval_seconds=0.01, **told.callbacks()) as heartbeat:
        wait_until(lambda: len(server.requests) >= 2)
        server.tweak = reject(code)
        error = told.rejected.get(timeout=SOON)
        assert (error.code, error.reference) == (code, "REF45678")
        assert "参考号" in error.message
        wait_until(lambda: not heartbeat.running)
        asked = len(server.requests)
        time.sleep(0.1)
        assert len(server.requests) == asked
    assert (told.rejected.qsize(), told.unreachable.qsize()) == (0, 0)


def away(server: FakeServer, failure: object) -> None:
    """From here on the server answers with nothing else."""
    server.genuine = lambda _request: failure  # type: ignore[method-assign,assignment,return-value]


FAILURES = {
    "no route": ServerUnreachable("no route"),
    "a page": Response(200, b"<html>sign in</html>"),
    "come back in eleven days": Response(429, b"", retry_after="999999"),
    "a refusal": problem(404, "NOT_FOUND"),
    "a fault of ours": ZeroDivisionError("unforeseen"),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("language", ["zh", "en"])
def test_an_expiry_is_reported_even_if_the_server_is_blocked(
    language: str, failure: object, make_client: MakeClient, server: FakeServer, told: Told
) -> None:
    """By the server's own times, from its last yes; and not by anybody's clock."""
    server.tweak = setting(card_expires_at=NOW + 1)
    client = make_client(language=language, clock=lambda: 0.0)
    verdict = client.open()
    away(server, failure)
    with Heartbeat(client, interval_seconds=0.05, verdict=verdict, **told.callbacks()) as heartbeat:
        no = told.rejected.get(timeout=SOON)
        assert (type(no), no.code, no.reference) == (CardRejected, "CARD_EXPIRED", "")
        assert no.message == {"zh": "卡密已过期，请续费", "en": "This card has expired. Please renew it"}[language]
        wait_until(lambda: not heartbeat.running and not threads())
    assert told.rejected.empty()


def test_an_expiry_is_reported_before_the_first_regular_beat(client: Client, server: FakeServer, told: Told) -> None:
    server.tweak = setting(card_expires_at=NOW + 1)
    verdict = client.open()
    away(server, ServerUnreachable("no route"))
    with Heartbeat(client, interval_seconds=3600, verdict=verdict, **told.callbacks()):
        assert told.rejected.get(timeout=SOON).reference == ""
    assert told.unreachable.qsize() == 1


@pytest.mark.parametrize("expires", [NOW + 3600, None])
def test_a_valid_card_survives_every_outage(
    expires: int | None, client: Client, server: FakeServer, told: Told
) -> None:
    server.tweak = setting(card_expires_at=expires)
    verdict = client.open()
    away(server, ServerUnreachable("no route"))
    with Heartbeat(client, interval_seconds=0.01, verdict=verdict, **told.callbacks()) as heartbeat:
        wait_until(lambda: told.unreachable.qsize() >= 5)
        assert heartbeat.running
    assert told.rejected.empty()


def test_it_asks_at_the_moment_when_the_card_expires(client: Client, server: FakeServer, told: Told) -> None:
    """Though the interval is an hour. The server's own times count, 2025 here, not this machine's."""
    server.tweak = setting(card_expires_at=NOW + 1)
    verdict = client.open()
    server.tweak = reject("CARD_EXPIRED")
    started = time.monotonic()
    with Heartbeat(client, interval_seconds=3600, verdict=verdict, **told.callbacks()):
        assert told.rejected.get(timeout=SOON).code == "CARD_EXPIRED"
    assert time.monotonic() - started > 1.9  # not a moment too early, when the server would still say yes
    assert len(server.requests) == 2


def test_an_expiry_is_learned_from_a_beat_too(client: Client, server: FakeServer, told: Told) -> None:
    def last_yes(request: dict[str, Any]) -> Response:
        server.tweak = setting(card_expires_at=NOW + 1)
        answer = server.genuine(request)
        server.tweak = reject("CARD_EXPIRED")
        return answer

    server.script = [last_yes]
    with Heartbeat(client, interval_seconds=3600, **told.callbacks()):
        assert told.rejected.get(timeout=SOON).code == "CARD_EXPIRED"


def test_an_extended_card_stays_valid(client: Client, server: FakeServer, told: Told) -> None:
    server.tweak = setting(card_expires_at=NOW + 1)
    verdict = client.open()
    server.tweak = setting(card_expires_at=None)
    with Heartbeat(client, interval_seconds=3600, verdict=verdict, **told.callbacks()) as heartbeat:
        wait_until(lambda: len(server.requests) == 2)
        time.sleep(1.3)  # were the old expiry still in force, it would ask each second
        assert heartbeat.running
    assert len(server.requests) == 2
    assert told.rejected.empty()


def test_with_the_verdict_of_the_opening_the_first_beat_comes_after_the_interval(
    client: Client, server: FakeServer
) -> None:
    with Heartbeat(client, interval_seconds=3600, verdict=client.open()):
        time.sleep(0.1)
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
    failure: object, error: type[KadunError], client: Client, server: FakeServer, told: Told
) -> None:
    server.script = [failure] * 3
    with Heartbeat(client, interval_seconds=0.01, **told.callbacks()):
        assert [type(told.unreachable.get(timeout=SOON)) for _ in range(3)] == [error] * 3
        wait_until(lambda: len(server.requests) >= 5)
        server.tweak = reject("CARD_FROZEN")
        assert told.rejected.get(timeout=SOON).code == "CARD_FROZEN"
    assert told.unreachable.empty()


def test_retry_after_delays_the_next_beat(client: Client, server: FakeServer, told: Told) -> None:
    server.script = [Response(429, b"", retry_after="30")]
    with Heartbeat(client, interval_seconds=0.01, **told.callbacks()):
        failure = told.unreachable.get(timeout=SOON)
        assert isinstance(failure, ServerUnreachable)
        assert failure.retry_after == 30
        time.sleep(0.2)
    assert len(server.requests) == 1


def test_no_failure_reaches_the_program(client: Client, server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    """Callbacks that raise, and a transport that raises what no transport should."""

    def burst(error: KadunError) -> None:
        raise RuntimeError(type(error).__name__)

    server.script = [ServerUnreachable("away"), ZeroDivisionError("a fault of ours")]
    with caplog.at_level(logging.ERROR, logger="kadun"):
        with Heartbeat(client, interval_seconds=0.01, on_rejected=burst, on_unreachable=burst) as heartbeat:
            wait_until(lambda: len(server.requests) >= 4)
            server.tweak = reject("CARD_FROZEN")
            wait_until(lambda: not heartbeat.running)
        wait_until(lambda: not threads())
    logged = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [repr(error) for error in logged] == [
        "RuntimeError('ServerUnreachable')",
        "ZeroDivisionError('a fault of ours')",
        "RuntimeError('CardRejected')",
    ]


@pytest.mark.parametrize("goodbye", [SystemExit("卡密失效"), KeyboardInterrupt(), GeneratorExit()])
def test_a_callback_that_raises_system_exit_is_logged_and_the_heartbeat_continues(
    goodbye: BaseException, client: Client, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    def leave(_error: KadunError) -> None:
        raise goodbye

    server.script = [ServerUnreachable("away")]
    with Heartbeat(client, interval_seconds=0.01, on_rejected=leave, on_unreachable=leave) as heartbeat:
        wait_until(lambda: len(server.requests) >= 3)  # it went on after the first
        server.tweak = reject("CARD_FROZEN")
        wait_until(lambda: not heartbeat.running and not threads())
    logged = [(record.name, record.levelname, record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert logged == [("kadun", "WARNING", goodbye)] * 2


def test_a_callback_may_end_the_program_as_the_documentation_says(server: FakeServer) -> None:
    program = f"""
import os, time
from kadun import Client, Heartbeat
client = Client("http://127.0.0.1:1", {pinned(server.key)!r}, {CARD!r}, hardware={HARDWARE!r})
Heartbeat(client, interval_seconds=0.01, on_unreachable=lambda error: os._exit(7)).start()
time.sleep(60)
"""
    environment = {"PYTHONPATH": str(SOURCE), "NO_PROXY": "*"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")


def test_it_works_without_callbacks(client: Client, server: FakeServer) -> None:
    server.script = [ServerUnreachable("away")]
    with Heartbeat(client, interval_seconds=0.01) as heartbeat:
        wait_until(lambda: len(server.requests) >= 2)
        server.tweak = reject("CARD_FROZEN")
        wait_until(lambda: not heartbeat.running)


def test_it_stops_at_once_however_long_the_interval(client: Client, server: FakeServer) -> None:
    with Heartbeat(client, interval_seconds=3600) as heartbeat:
        wait_until(lambda: server.requests)
    assert not heartbeat.running
    wait_until(lambda: not threads())  # an hour long, were the interval waited for


def test_it_stops_at_once_during_a_beat_and_calls_no_callback_afterwards(make_client: MakeClient, told: Told) -> None:
    with serving(lambda handler, _body: handler.server.released.wait()) as local:  # type: ignore[arg-type]
        client = make_client(transport=HttpTransport(local.url, timeout_seconds=3))
        with Heartbeat(client, interval_seconds=0.01, **told.callbacks()):
            wait_until(lambda: local.seen)
        assert threads()  # the beat still hangs: nobody has waited for it
        wait_until(lambda: not threads())
    assert told.unreachable.empty()


def test_it_may_be_stopped_from_its_own_callback(client: Client, server: FakeServer) -> None:
    beats: list[KadunError] = []
    server.script = [ServerUnreachable("away")] * 9

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


def test_a_running_heartbeat_does_not_keep_the_program_alive(server: FakeServer) -> None:
    """Nothing keeps it alive and nothing is printed, though the server is away."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        program = f"""
import time
from kadun import Client, Heartbeat
client = Client("http://127.0.0.1:{unused.getsockname()[1]}", {pinned(server.key)!r}, {CARD!r}, hardware={HARDWARE!r})
Heartbeat(client, interval_seconds=0.001, on_unreachable=lambda error: 1 / 0).start()
time.sleep(1)
"""
        environment = {"PYTHONPATH": str(SOURCE), "NO_PROXY": "*"}
        command = [sys.executable, "-W", "error", "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
