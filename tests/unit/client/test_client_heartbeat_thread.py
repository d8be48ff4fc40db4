"""The heartbeat's thread: starts once, stops in time, and neither disturbs the program nor keeps it alive."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kadun
import pytest
from kadun import Client, Heartbeat, KadunError, ServerUnreachable
from kadun.responses import Response
from kadun.retries import RetryPolicy
from kadun.transport import HttpTransport

from tests.support.client.fake_server import CARD, HARDWARE, FakeServer, pinned
from tests.support.client.local_http import forged, serving
from tests.support.client.ports import closed_port
from tests.support.client.timing import LONG_SECONDS, SOON_SECONDS, heartbeat_threads, wait_until
from tests.support.tables import for_each

MakeClient = Callable[..., Client]
UNBOUND = Response(
    200,
    b'{"status": "active", "expires_at": null, "bound": false, "unbinds_left": 1, "next_unbind_at": null}',
    content_type="application/json",
)
SOURCE = Path(kadun.__file__).parent.parent


class Hanging:
    """An answer that comes once it is released."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked, self.released = threading.Event(), threading.Event()

    def __call__(self, _request: dict[str, Any]) -> object:
        self.asked.set()
        self.released.wait()
        return self.answer


def test_it_asks_periodically_under_its_name(client: Client, server: FakeServer) -> None:
    with Heartbeat(client, interval_seconds=0.01):
        wait_until(lambda: len(server.requests) >= 3)
    asked = list(server.requests)  # a beat that was under way may still come
    assert {request["function"] for request in asked} == {"心跳"}
    assert len({request["nonce"] for request in asked}) == len(asked)


def test_it_starts_once_and_stops_at_once_however_long_the_interval(client: Client, server: FakeServer) -> None:
    heartbeat = Heartbeat(client, interval_seconds=3600)
    assert not heartbeat.running
    with heartbeat:
        with pytest.raises(RuntimeError):
            heartbeat.start()
        wait_until(lambda: server.requests)
    assert not heartbeat.running
    wait_until(lambda: not heartbeat_threads())


def test_it_stops_though_a_beat_hangs_and_calls_no_callback(make_client: MakeClient, server: FakeServer) -> None:
    hanging = Hanging(ServerUnreachable("no route"))
    reported: list[KadunError] = []
    server.script = [hanging]
    with Heartbeat(make_client(timeout_seconds=LONG_SECONDS), on_unreachable=reported.append):
        assert hanging.asked.wait(SOON_SECONDS)
        begun = time.monotonic()
    assert time.monotonic() - begun < SOON_SECONDS
    assert heartbeat_threads()  # the beat still hangs
    hanging.released.set()
    wait_until(lambda: not heartbeat_threads())
    assert (reported, len(server.requests)) == ([], 1)


def test_unbinding_waits_for_a_beat_that_is_not_sent_again(make_client: MakeClient, server: FakeServer) -> None:
    """A beat after `unbind` would bind the card to this machine again."""
    busy = Hanging(Response(503, b""))
    released_before: list[bool] = []

    def unbind(_request: dict[str, Any]) -> Response:
        released_before.append(busy.released.is_set())
        return UNBOUND

    server.script = [busy, unbind]
    client = make_client(timeout_seconds=LONG_SECONDS)
    with Heartbeat(client):
        assert busy.asked.wait(SOON_SECONDS)
    threading.Timer(0.1, busy.released.set).start()
    assert not client.unbind().bound
    assert released_before == [True]
    wait_until(lambda: not heartbeat_threads())
    assert server.paths == ["/v1/verify", "/v1/self/unbind"]


def test_unbinding_waits_for_a_beat_that_hangs_no_longer_than_the_timeout(
    make_client: MakeClient, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    hanging = Hanging(ServerUnreachable("no route"))
    server.script = [hanging, UNBOUND, UNBOUND]
    client = make_client(timeout_seconds=0.01)
    with Heartbeat(client):
        assert hanging.asked.wait(SOON_SECONDS)
    assert not client.unbind().bound
    hanging.released.set()
    wait_until(lambda: not heartbeat_threads())
    assert not client.unbind().bound
    assert server.paths == ["/v1/verify", "/v1/self/unbind", "/v1/self/unbind"]
    assert not caplog.records


def test_stopping_ends_the_pause_before_a_retry(make_client: MakeClient, server: FakeServer) -> None:
    server.script = [Response(503, b"")]
    with Heartbeat(make_client(retry_policy=RetryPolicy(first_pause_seconds=3600))):
        wait_until(lambda: server.requests)
    wait_until(lambda: not heartbeat_threads())
    assert len(server.requests) == 1


def test_a_beat_that_begins_after_the_stop_is_not_sent(client: Client, server: FakeServer) -> None:
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(ServerUnreachable) as caught:
        client._beat("心跳", stopped)  # noqa: SLF001 - as the heartbeat does
    assert (caught.value.sent, server.requests) == (False, [])


def test_it_may_be_stopped_from_its_own_callback(client: Client, server: FakeServer) -> None:
    beats: list[KadunError] = []
    server.script = [ServerUnreachable("no route")] * 9

    def give_up(error: KadunError) -> None:
        beats.append(error)
        heartbeat.stop()

    heartbeat = Heartbeat(client, interval_seconds=0.01, on_unreachable=give_up)
    heartbeat.start()
    wait_until(lambda: not heartbeat.running and not heartbeat_threads())
    assert len(beats) == 1


@for_each(
    ("setting", "value"),
    [
        *(("interval_seconds", seconds) for seconds in (0, -1, float("nan"), float("inf"))),
        *(("function", name) for name in ("", "x" * 65, "打开程序")),
    ],
)
def test_invalid_settings_are_refused(setting: str, value: object, client: Client) -> None:
    with pytest.raises(ValueError, match=r"interval_seconds|function"):
        Heartbeat(client, **{setting: value})  # type: ignore[arg-type]


def test_the_program_may_use_the_client_at_the_same_time(make_client: MakeClient, server: FakeServer) -> None:
    with serving(forged(server)) as local:
        client = make_client(transport=HttpTransport(local.url))
        with Heartbeat(client, interval_seconds=0.001):
            assert all(client.open().accepted and client.report("导出报表").accepted for _ in range(10))


def run_program(server: FakeServer, body: str) -> tuple[int, bytes, bytes]:
    """Run a program with a client of an unreachable server; return its exit status and output."""
    with closed_port() as address:
        program = f"""
import os, time
from kadun import Client, Heartbeat
client = Client("http://{address}", {pinned(server.key)!r}, {CARD!r}, hardware={HARDWARE!r})
{body}
"""
        command = [sys.executable, "-W", "error", "-c", program]
        environment = {"PYTHONPATH": str(SOURCE), "NO_PROXY": "*"}
        done = subprocess.run(command, env=environment, capture_output=True, timeout=SOON_SECONDS, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_callback_may_end_the_program_as_the_documentation_says(server: FakeServer) -> None:
    body = f"""
Heartbeat(client, interval_seconds=0.01, on_unreachable=lambda error: os._exit(7)).start()
time.sleep({SOON_SECONDS})
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
assert failed.wait({SOON_SECONDS}) and heartbeat.running
"""
    assert run_program(server, body) == (0, b"", b"")
