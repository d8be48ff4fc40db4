"""A server that is down, slow, resetting, dripping, half-closed or sends garbage: which error the client raises.

Nothing here depends on the load of the machine. Where a call can only end by its timeout, the timeout passes as soon
as the server has stalled; everywhere else it is so long that only the fault itself can end the call.
"""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from kadun import Client, KadunError, ServerUnreachable, UntrustedAnswer
from kadun.connections import Connections
from kadun.retries import RetryPolicy
from kadun.transport import HttpTransport

from tests.support.client.fake_server import CARD, HARDWARE, FakeServer, SigningKey, pinned
from tests.support.client.local_http import Handler, Respond, forged, serving
from tests.support.client.ports import closed_port, deaf_port, dripping_tls_port, hanging_up_port, silent_port
from tests.support.client.raw_responses import CHUNKED, LONG, OK, drip, half_close, repeat, send, stall
from tests.support.client.timing import LONG_SECONDS, StalledQueue, wait_until
from tests.support.tables import for_each

SHORT_SECONDS = 0.1  # for the port where no connection is established
UNREACHABLE, UNTRUSTED = ServerUnreachable, UntrustedAnswer
FAULTS: list[tuple[str, Respond, type[KadunError]]] = [
    ("slow: no byte", send(b"", stall), UNREACHABLE),
    ("drip: headers", send(OK, drip(b"X-More: 1\r\n")), UNREACHABLE),
    ("drip: the body", send(LONG, drip(b" ")), UNREACHABLE),
    ("flood: 100 Continue", send(b"", repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)), UNREACHABLE),
    ("flood: one header", send(OK + b"X-Long: ", repeat(b"x" * 1000)), UNREACHABLE),
    ("reset: during the body", send(LONG + b"{", Handler.reset), UNREACHABLE),
    ("closed: during the headers", send(OK + b"Content-Le"), UNREACHABLE),
    ("closed: during a chunk", send(CHUNKED + b"ff\r\nabc"), UNREACHABLE),
    ("half-closed: a whole answer without a length", send(OK + b"\r\n<html>", half_close), UNTRUSTED),
    ("garbage: bytes", send(bytes(range(256)) * 300), UNREACHABLE),
    ("garbage: no body", send(OK + b"Content-Length: 0\r\n\r\n"), UNTRUSTED),
    ("garbage: a redirect", send(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"), UNTRUSTED),
    ("garbage: 511 sign in", send(b"HTTP/1.1 511 Network Authentication Required\r\n\r\n<html>"), UNREACHABLE),
    ("garbage: a token that is not text", send(OK + b'\r\n{"token": 7}'), UNTRUSTED),
    ("garbage: deep JSON", send(OK + b"\r\n" + b"[" * 200_000), UNTRUSTED),
]


def client_for(url: str, key: SigningKey, **settings: Any) -> Client:
    settings = {"timeout_seconds": LONG_SECONDS, "retry_policy": RetryPolicy(first_pause_seconds=0.002), **settings}
    return Client(url, pinned(key), CARD, hardware=HARDWARE, state_dir=None, **settings)


def stalls(fault: str) -> bool:
    """Whether only the timeout can end the call."""
    return fault.startswith(("slow", "drip", "flood: 100"))


@contextlib.contextmanager
def prepared_for(fault: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        if stalls(fault):
            patched.setattr(queue, "Queue", StalledQueue)
        yield


@for_each("fault, respond, documented", FAULTS)
def test_a_faulty_server_ends_in_the_documented_error(
    fault: str,
    respond: Respond,
    documented: type[KadunError],
    signing_key: SigningKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with prepared_for(fault, monkeypatch), serving(respond) as local, pytest.raises(KadunError) as caught:
        client_for(local.url, signing_key).open()
    assert type(caught.value) is documented
    assert caught.value.message
    assert not caught.value.message.isascii()
    assert ("no answer within" in caught.value.detail) is stalls(fault)
    if fault.startswith(("closed", "reset")):
        assert len(local.seen) == 3


@for_each("scheme", ["http", "https"])
@for_each("port", [deaf_port, closed_port, silent_port, hanging_up_port])
def test_a_server_that_is_down_is_unreachable(
    port: Callable[[], AbstractContextManager[str]],
    scheme: str,
    signing_key: SigningKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = SHORT_SECONDS if port is deaf_port else LONG_SECONDS
    with port() as address, prepared_for("slow" if port is silent_port else "", monkeypatch):
        client = client_for(f"{scheme}://{address}", signing_key, timeout_seconds=seconds)
        with pytest.raises(ServerUnreachable, match="无法连接验证服务器"):
            client.open()
        with pytest.raises(ServerUnreachable, match="无法连接验证服务器"):
            client.download("model.bin", tmp_path / "model.bin")
    assert list(tmp_path.iterdir()) == []


def test_tls_that_never_begins_is_unreachable_and_retried_where_the_connection_closed(server: FakeServer) -> None:
    heard: list[bytes] = []
    with hanging_up_port(heard) as address, pytest.raises(ServerUnreachable):
        client_for(f"https://{address}", server.key).open()
    assert len(heard) == 3
    with serving(forged(server)) as plain, pytest.raises(ServerUnreachable):
        client_for(plain.url.replace("http:", "https:"), server.key).open()
    assert server.requests == []


@for_each("status", [200, 403, 429, 503])
def test_a_response_with_a_valid_token_is_final_whatever_its_status(status: int, server: FakeServer) -> None:
    def respond(handler: Handler, body: bytes) -> None:
        handler.send(status, server.exchange(handler.path, body, "").body, Retry_After="1")

    with serving(respond) as local:
        assert client_for(local.url, server.key).open().accepted
    assert len(local.seen) == 1


def sockets_open() -> int:
    """How many this process has, those of the test's own server among them."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            count += str(link.readlink()).startswith("socket:")
    return count


def at_work() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "kadun-request"]


@contextlib.contextmanager
def served_by(respond: Respond, *, as_proxy: bool = False) -> Iterator[str]:
    """The URL of a server that never comes to the end of its answer, as a proxy to CONNECT."""
    with serving(respond) as local, pytest.MonkeyPatch.context() as environment:
        if as_proxy:
            environment.delenv("NO_PROXY")
            environment.setenv("https_proxy", local.url)
        yield "https://card.invalid" if as_proxy else local.url


def exchanged(transport: HttpTransport) -> None:
    transport.exchange("/v1/verify", b"{}", "zh")


def streamed(transport: HttpTransport) -> None:
    with transport.stream("/v1/files/x", {}) as answer:
        list(answer.pieces())


HEADERS, BODY = send(OK, drip(b"X-Slow: yes\r\n")), send(LONG, drip(b" "))


@for_each(
    "ask, endless",
    [
        (exchanged, lambda: served_by(BODY)),
        (exchanged, dripping_tls_port),
        (exchanged, lambda: served_by(HEADERS, as_proxy=True)),
        (streamed, lambda: served_by(HEADERS)),
        (streamed, lambda: served_by(BODY)),
    ],
)
def test_a_timed_out_request_leaves_no_thread_and_no_socket(
    ask: Callable[[HttpTransport], None], endless: Callable[[], AbstractContextManager[str]]
) -> None:
    with endless() as url:
        transport = HttpTransport(url, timeout_seconds=0.2)
        before, started = sockets_open(), time.monotonic()
        for _ in range(3):
            with pytest.raises(ServerUnreachable, match="within"):
                ask(transport)
        assert time.monotonic() - started > 0.5  # three timeouts
        wait_until(lambda: not at_work())  # while the other side still drips
        wait_until(lambda: sockets_open() <= before + 3)  # the servers' own ends of the three


def test_a_late_connection_is_closed_at_once() -> None:
    connections = Connections()
    connections.cut()
    ours, theirs = socket.socketpair()
    with theirs:
        with pytest.raises(TimeoutError):
            connections.keep(ours)
        assert theirs.recv(1) == b""
