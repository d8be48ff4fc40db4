"""A server that is down, slow, resetting, dripping, half-closed or sends garbage: which error the client raises.

Nothing here depends on the load of the machine. Where a call can only end by its timeout, the timeout passes as soon
as the server has stalled; everywhere else it is so long that only the fault itself can end the call.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from kadun import Client, Heartbeat, KadunError, ServerUnreachable, UntrustedAnswer
from kadun.retries import RetryPolicy

from tests.support.client.fake_server import (
    CARD,
    HARDWARE,
    REPORT,
    FakeServer,
    SigningKey,
    claims_for,
    pinned,
    verdict_response,
)
from tests.support.client.local_http import Handler, forged, serving

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

LONG_SECONDS = 120.0
SHORT_SECONDS = 0.1  # for the port where no connection is established
TIMED_OUT = "no answer within"
STALLED = threading.Event()
Serve = Callable[[Handler, bytes], None]


class StalledQueue(queue.Queue[Any]):
    """Where a transport waits for its thread: the timeout passes once the server has stalled."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        STALLED.clear()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002 - the original's
        deadline = time.monotonic() + (timeout or 0)
        while time.monotonic() < deadline:
            try:
                return super().get(block, 0.005)
            except queue.Empty:
                if STALLED.is_set():
                    raise
        raise queue.Empty


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


def say(raw: bytes) -> Serve:
    """Send exactly these bytes, and close."""
    return lambda handler, _body: handler.wfile.write(raw) and None


def then_wait(raw: bytes) -> Serve:
    def respond(handler: Handler, _body: bytes) -> None:
        handler.wfile.write(raw)
        STALLED.set()
        handler.server.released.wait()

    return respond


def then_repeat(raw: bytes, piece: bytes, pause_seconds: float = 0.0) -> Serve:
    """Send a piece again and again; the server counts as stalled after a few."""

    def respond(handler: Handler, _body: bytes) -> None:
        handler.wfile.write(raw)
        for _ in range(5):
            handler.wfile.write(piece)
        STALLED.set()
        while not handler.server.released.wait(pause_seconds):
            handler.wfile.write(piece)

    return respond


def then_drip(raw: bytes, drop: bytes) -> Serve:
    return then_repeat(raw, drop, 0.02)


def then_reset(raw: bytes) -> Serve:
    def respond(handler: Handler, _body: bytes) -> None:
        handler.wfile.write(raw)
        handler.reset()

    return respond


def then_half_close(raw: bytes) -> Serve:
    """Send no more, but keep the connection."""

    def respond(handler: Handler, _body: bytes) -> None:
        handler.wfile.write(raw)
        handler.connection.shutdown(socket.SHUT_WR)
        handler.server.released.wait()

    return respond


OK = b"HTTP/1.1 200 OK\r\n"
LONG = OK + b"Content-Length: 100000\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
UNREACHABLE, UNTRUSTED = ServerUnreachable, UntrustedAnswer

FAULTS: dict[str, tuple[Serve, type[KadunError]]] = {
    "slow: no byte": (then_wait(b""), UNREACHABLE),
    "slow: after the status": (then_wait(OK), UNREACHABLE),
    "slow: after the headers": (then_wait(LONG), UNREACHABLE),
    "slow: during the body": (then_wait(LONG + b'{"token": "'), UNREACHABLE),
    "slow: during a chunk": (then_wait(CHUNKED + b"ff\r\nabc"), UNREACHABLE),
    "drip: the status": (then_drip(b"", b"H"), UNREACHABLE),
    "drip: headers": (then_drip(OK, b"X-More: 1\r\n"), UNREACHABLE),
    "drip: one header": (then_drip(OK + b"X-Long: ", b"x"), UNREACHABLE),
    "drip: the body": (then_drip(LONG, b" "), UNREACHABLE),
    "drip: chunks": (then_drip(CHUNKED, b"1\r\n \r\n"), UNREACHABLE),
    "drip: the length of a chunk": (then_drip(CHUNKED, b"0"), UNREACHABLE),
    "drip: 100 Continue": (then_drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), UNREACHABLE),
    "flood: 100 Continue": (then_repeat(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), UNREACHABLE),
    "flood: headers": (then_repeat(OK, b"X-More: 1\r\n" * 100), UNREACHABLE),
    "flood: one header": (then_repeat(OK + b"X-Long: ", b"x" * 1000), UNREACHABLE),
    "reset: immediately": (then_reset(b""), UNREACHABLE),
    "reset: after the status": (then_reset(OK), UNREACHABLE),
    "reset: during the body": (then_reset(LONG + b"{"), UNREACHABLE),
    "closed: immediately": (say(b""), UNREACHABLE),
    "closed: during the headers": (say(OK + b"Content-Le"), UNREACHABLE),
    "closed: during the body": (say(LONG + b"{"), UNREACHABLE),
    "closed: during a chunk": (say(CHUNKED + b"ff\r\nabc"), UNREACHABLE),
    "half-closed: immediately": (then_half_close(b""), UNREACHABLE),
    "half-closed: during the headers": (then_half_close(OK + b"Content-Le"), UNREACHABLE),
    "half-closed: during the body": (then_half_close(LONG + b"{"), UNREACHABLE),
    "half-closed: a whole answer without a length": (then_half_close(OK + b"\r\n<html>"), UNTRUSTED),
    "garbage: not HTTP": (say(b"220 mail.example.com ESMTP\r\n"), UNREACHABLE),
    "garbage: bytes": (say(bytes(range(256)) * 300), UNREACHABLE),
    "garbage: a TLS alert": (say(b"\x15\x03\x01\x00\x02\x02\x50"), UNREACHABLE),
    "garbage: a status that is invalid": (say(b"HTTP/1.1 banana\r\n\r\n"), UNREACHABLE),
    "garbage: HTTP of an unknown version": (say(b"HTTP/9.9 200 OK\r\n\r\n"), UNREACHABLE),
    "garbage: chunks that are invalid": (say(CHUNKED + b"what?\r\n"), UNREACHABLE),
    "garbage: a length below zero": (say(OK + b"Content-Length: -5\r\n\r\n{}"), UNTRUSTED),
    "garbage: two lengths": (say(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), UNREACHABLE),
    "garbage: a page": (say(OK + b"\r\n<!doctype html><title>Sign in</title>"), UNTRUSTED),
    "garbage: no body": (say(OK + b"Content-Length: 0\r\n\r\n"), UNTRUSTED),
    "garbage: 204": (say(b"HTTP/1.1 204 No Content\r\n\r\n"), UNTRUSTED),
    "garbage: 304": (say(b"HTTP/1.1 304 Not Modified\r\n\r\n"), UNTRUSTED),
    "garbage: 404 of another server": (say(b"HTTP/1.1 404 Not Found\r\n\r\n<html>"), UNTRUSTED),
    "garbage: a redirect": (say(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"), UNTRUSTED),
    "garbage: 511 sign in": (say(b"HTTP/1.1 511 Network Authentication Required\r\n\r\n<html>"), UNREACHABLE),
    "garbage: JSON that is not an object": (say(OK + b"\r\n[1, 2]"), UNTRUSTED),
    "garbage: deep JSON": (say(OK + b"\r\n" + b"[" * 200_000), UNTRUSTED),
    "garbage: a token that is invalid": (say(OK + b'\r\n{"token": "a.b.c"}'), UNTRUSTED),
    "garbage: a token that is not text": (say(OK + b'\r\n{"token": 7}'), UNTRUSTED),
    "busy: 429": (say(b"HTTP/1.1 429 Too Many Requests\r\n\r\n"), UNREACHABLE),
    "busy: 502": (say(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), UNREACHABLE),
    "busy: 503 for an hour": (say(b"HTTP/1.1 503 Unavailable\r\nRetry-After: 3600\r\n\r\n"), UNREACHABLE),
    "broken: 500": (say(b"HTTP/1.1 500 Internal Server Error\r\n\r\n"), UNREACHABLE),
}


def client_for(url: str, key: SigningKey, **settings: Any) -> Client:
    settings = {"timeout_seconds": LONG_SECONDS, "retry_policy": RetryPolicy(first_pause_seconds=0.002), **settings}
    return Client(url, pinned(key), CARD, hardware=HARDWARE, state_dir=None, **settings)


def stalls(fault: str) -> bool:
    """Whether only the timeout can end the call."""
    return fault.startswith(("slow", "drip", "flood: 100"))


def prepare_for(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if stalls(fault):
        monkeypatch.setattr(queue, "Queue", StalledQueue)


def calls(client: Client, folder: Path) -> dict[str, Callable[[], object]]:
    return {
        "open": client.open,
        "report": lambda: client.report(REPORT),
        "execute": lambda: client.execute("汇率换算", {"amount": 100}),
        "download": lambda: client.download("model.bin", folder / "model.bin"),
    }


@pytest.mark.parametrize("call", ["open", "execute"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_server_ends_in_the_documented_error(
    fault: str, call: str, signing_key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    respond, documented = FAULTS[fault]
    prepare_for(fault, monkeypatch)
    with serving(respond) as local, pytest.raises(KadunError) as caught:
        calls(client_for(local.url, signing_key), tmp_path)[call]()
    assert type(caught.value) is documented
    assert caught.value.message
    assert not caught.value.message.isascii()
    assert (TIMED_OUT in caught.value.detail) is stalls(fault)
    if call == "execute":
        assert len(local.seen) == 1
    elif fault.startswith(("closed", "reset")):
        assert len(local.seen) == 3


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_server_leaves_the_target_unchanged(
    fault: str, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listing(request: dict[str, Any]) -> Any:
        claims = claims_for(request)
        claims["files"] = [{"name": "model.bin", "size": 100_000, "sha256": "0" * 64, "url": "/v1/files/model.bin"}]
        return verdict_response(server.key.token(claims))

    server.genuine = listing  # type: ignore[method-assign]
    prepare_for(fault, monkeypatch)

    def respond(handler: Handler, body: bytes) -> None:
        (forged(server) if handler.command == "POST" else FAULTS[fault][0])(handler, body)

    target = tmp_path / "model.bin"
    target.write_bytes(b"old")
    with serving(respond) as local, pytest.raises(KadunError) as caught:
        client_for(local.url, server.key).download("model.bin", target)
    assert caught.value.message
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("respond", [then_wait(b""), then_drip(LONG, b" "), then_drip(OK, b"X-More: 1\r\n")])
def test_a_call_ends_by_its_timeout(respond: Serve, signing_key: SigningKey) -> None:
    """With real timeouts; the upper limit is for a machine that is busy with other things."""
    started = time.monotonic()
    with serving(respond) as local, pytest.raises(ServerUnreachable, match=TIMED_OUT):
        client_for(local.url, signing_key, timeout_seconds=0.3, retry_policy=RetryPolicy(tries=1)).open()
    assert 0.3 <= time.monotonic() - started < LONG_SECONDS / 2


@contextmanager
def deaf_port() -> Iterator[str]:
    """A port with a full backlog: no connection is established, as behind a firewall that drops packets."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.socket()))
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            caller = stack.enter_context(closing(socket.socket()))
            caller.setblocking(False)  # noqa: FBT003 - the standard library's own signature
            caller.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def closed_port() -> Iterator[str]:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))  # taken, but not listening
        yield f"127.0.0.1:{unused.getsockname()[1]}"


@contextmanager
def accepting_port(handle: Callable[[socket.socket, ExitStack], None]) -> Iterator[str]:
    """A port that hands each connection to `handle`; what that leaves open is closed at the end."""
    with ExitStack() as stack, closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _address = listener.accept()
                except OSError:
                    return
                handle(connection, stack)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def silent_port() -> AbstractContextManager[str]:
    """A port that reads the first bytes and sends nothing, so that no TLS handshake completes."""

    def handle(connection: socket.socket, stack: ExitStack) -> None:
        stack.enter_context(connection)
        connection.recv(1, socket.MSG_PEEK)
        STALLED.set()

    return accepting_port(handle)


def hanging_up_port(received: list[bytes] | None = None) -> AbstractContextManager[str]:
    """A port that closes each connection after the first bytes."""

    def handle(connection: socket.socket, _stack: ExitStack) -> None:
        with connection:
            first = connection.recv(100_000)
            if received is not None:
                received.append(first)

    return accepting_port(handle)


@pytest.mark.parametrize("call", ["open", "report", "execute", "download"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("port", [deaf_port, closed_port, silent_port, hanging_up_port])
def test_a_server_that_is_down_is_unreachable(
    port: Callable[[], Any],
    scheme: str,
    call: str,
    signing_key: SigningKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = SHORT_SECONDS if port is deaf_port else LONG_SECONDS
    if port is silent_port:
        monkeypatch.setattr(queue, "Queue", StalledQueue)
    with port() as address:
        client = client_for(f"{scheme}://{address}", signing_key, timeout_seconds=seconds)
        with pytest.raises(ServerUnreachable, match="无法连接验证服务器"):
            calls(client, tmp_path)[call]()
    assert list(tmp_path.iterdir()) == []


def test_a_connection_closed_during_the_tls_handshake_is_retried(signing_key: SigningKey) -> None:
    heard: list[bytes] = []
    with hanging_up_port(heard) as address, pytest.raises(ServerUnreachable):
        client_for(f"https://{address}", signing_key).open()
    assert len(heard) == 3


def test_an_unknown_name_is_unreachable(signing_key: SigningKey) -> None:
    with pytest.raises(ServerUnreachable):
        client_for("https://card.invalid", signing_key).open()


def test_a_heartbeat_survives_every_fault(server: FakeServer) -> None:
    """One server with all faults in turn; the heartbeat continues, and reports each."""
    faults = [respond for name, (respond, _error) in FAULTS.items() if not stalls(name)]
    waiting = iter(faults)
    told: list[KadunError] = []

    def respond(handler: Handler, body: bytes) -> None:
        next(waiting, forged(server))(handler, body)

    beaten = threading.Event()
    genuine = server.genuine
    server.genuine = lambda request: beaten.set() or genuine(request)  # type: ignore[method-assign,func-returns-value]
    with serving(respond) as local:
        client = client_for(local.url, server.key, retry_policy=RetryPolicy(tries=1))
        with Heartbeat(client, interval_seconds=0.01, on_unreachable=told.append) as heartbeat:
            # One fault asks for an hour, which this test does not wait for.
            heartbeat._after_failure = lambda _failure: 0.01  # type: ignore[method-assign]  # noqa: SLF001
            assert beaten.wait(LONG_SECONDS)
    assert len(told) >= len(faults) - 1


def test_a_retry_after_header_is_respected(server: FakeServer) -> None:
    pauses: list[float] = []

    def respond(handler: Handler, body: bytes) -> None:
        if len(handler.server.seen) == 1:
            handler.send(503, b'{"code": "UNAVAILABLE"}', Retry_After="3", Content_Type="application/problem+json")
        else:
            forged(server)(handler, body)

    with serving(respond) as local:
        assert client_for(local.url, server.key, retry_policy=RetryPolicy(sleep=pauses.append)).open().accepted
    (pause,) = pauses
    assert 3 < pause <= 3.5


@pytest.mark.parametrize("status", [200, 403, 429, 502, 503, 504])
def test_a_response_with_a_valid_token_is_final_whatever_its_status(status: int, server: FakeServer) -> None:
    def respond(handler: Handler, body: bytes) -> None:
        handler.send(status, server.exchange(handler.path, body, "").body, Retry_After="1")

    with serving(respond) as local:
        assert client_for(local.url, server.key).open().accepted
    assert len(local.seen) == 1


def test_the_systems_proxy_is_used(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY")
    with serving(forged(server)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert client_for("http://card.invalid", server.key).open().accepted
    assert [path for _method, path, _headers, _body in proxy.seen] == ["http://card.invalid/v1/verify"]


@pytest.mark.parametrize(
    ("base_url", "answer"),
    [
        ("http://card.invalid", b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n<html>"),
        ("https://card.invalid", b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n<html>"),
        ("https://card.invalid", b"HTTP/1.1 502 Bad Gateway\r\n\r\n"),
        ("https://card.invalid", b"HTTP/1.1 200 Connection established\r\n\r\nno TLS here"),
        ("https://card.invalid", b""),
    ],
)
def test_a_proxy_that_refuses_is_unreachable_or_untrusted(
    base_url: str, answer: bytes, signing_key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    with serving(say(answer)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises((ServerUnreachable, UntrustedAnswer)):
            client_for(base_url, signing_key).open()


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "socks5://127.0.0.1:1", "nonsense://x", "http://", "::::"])
def test_an_invalid_proxy_is_unreachable(proxy: str, signing_key: SigningKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(ServerUnreachable) as caught:
        client_for("http://card.invalid", signing_key).open()
    assert caught.value.detail
