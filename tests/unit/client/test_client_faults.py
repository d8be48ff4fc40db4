"""A server that is down, slow, resetting, answering garbage, dripping or half-closed: what is raised, and how soon.

The promise: every call ends within `tries x timeout_seconds` and the pauses between the tries, most of them far sooner,
with the error that the documentation names, and with a message fit for a customer.
"""

from __future__ import annotations

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
    FakeServer,
    SigningKey,
    claims_for,
    pinned,
    verdict_response,
)
from tests.support.client.local_http import Handler, forged, serving

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_SECONDS = 0.1  # for what ends by it alone
AMPLE_SECONDS = 5.0  # for what must end long before it
SLACK_SECONDS = 3.0  # generous beside what two busy cores take
Serve = Callable[[Handler, bytes], None]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


def say(raw: bytes) -> Serve:
    """Exactly these bytes, and then the end."""
    return lambda handler, _body: handler.wfile.write(raw) and None


def then_wait(raw: bytes) -> Serve:
    def respond(handler: Handler, _body: bytes) -> None:
        handler.wfile.write(raw)
        handler.server.released.wait()

    return respond


def then_drip(raw: bytes, drop: bytes) -> Serve:
    def respond(handler: Handler, _body: bytes) -> None:
        handler.wfile.write(raw)
        while not handler.server.released.wait(0.02):
            handler.wfile.write(drop)

    return respond


def then_flood(raw: bytes, piece: bytes) -> Serve:
    def respond(handler: Handler, _body: bytes) -> None:
        handler.wfile.write(raw)
        while not handler.server.released.is_set():
            handler.wfile.write(piece)

    return respond


def then_reset(raw: bytes) -> Serve:
    def respond(handler: Handler, _body: bytes) -> None:
        handler.wfile.write(raw)
        handler.reset()

    return respond


def then_half_close(raw: bytes) -> Serve:
    """Nothing more will come, but the connection stays."""

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
    "slow: not a word": (then_wait(b""), UNREACHABLE),
    "slow: after the status": (then_wait(OK), UNREACHABLE),
    "slow: after the headers": (then_wait(LONG), UNREACHABLE),
    "slow: in the midst of the body": (then_wait(LONG + b'{"token": "'), UNREACHABLE),
    "slow: in the midst of a chunk": (then_wait(CHUNKED + b"ff\r\nabc"), UNREACHABLE),
    "drip: the status": (then_drip(b"", b"H"), UNREACHABLE),
    "drip: headers": (then_drip(OK, b"X-More: 1\r\n"), UNREACHABLE),
    "drip: one header": (then_drip(OK + b"X-Long: ", b"x"), UNREACHABLE),
    "drip: the body": (then_drip(LONG, b" "), UNREACHABLE),
    "drip: chunks": (then_drip(CHUNKED, b"1\r\n \r\n"), UNREACHABLE),
    "drip: the length of a chunk": (then_drip(CHUNKED, b"0"), UNREACHABLE),
    "drip: 100 Continue": (then_drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), UNREACHABLE),
    "flood: 100 Continue": (then_flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), UNREACHABLE),
    "flood: headers": (then_flood(OK, b"X-More: 1\r\n" * 100), UNREACHABLE),
    "flood: one header": (then_flood(OK + b"X-Long: ", b"x" * 1000), UNREACHABLE),
    "reset: at once": (then_reset(b""), UNREACHABLE),
    "reset: after the status": (then_reset(OK), UNREACHABLE),
    "reset: in the midst of the body": (then_reset(LONG + b"{"), UNREACHABLE),
    "closed: at once": (say(b""), UNREACHABLE),
    "closed: in the midst of the headers": (say(OK + b"Content-Le"), UNREACHABLE),
    "closed: in the midst of the body": (say(LONG + b"{"), UNREACHABLE),
    "closed: in the midst of a chunk": (say(CHUNKED + b"ff\r\nabc"), UNREACHABLE),
    "half-closed: at once": (then_half_close(b""), UNREACHABLE),
    "half-closed: in the midst of the headers": (then_half_close(OK + b"Content-Le"), UNREACHABLE),
    "half-closed: in the midst of the body": (then_half_close(LONG + b"{"), UNREACHABLE),
    "half-closed: a whole answer without a length": (then_half_close(OK + b"\r\n<html>"), UNTRUSTED),
    "garbage: not HTTP": (say(b"220 mail.example.com ESMTP\r\n"), UNREACHABLE),
    "garbage: bytes": (say(bytes(range(256)) * 300), UNREACHABLE),
    "garbage: a TLS alert": (say(b"\x15\x03\x01\x00\x02\x02\x50"), UNREACHABLE),
    "garbage: a status that is none": (say(b"HTTP/1.1 banana\r\n\r\n"), UNREACHABLE),
    "garbage: HTTP of another age": (say(b"HTTP/9.9 200 OK\r\n\r\n"), UNREACHABLE),
    "garbage: chunks that are none": (say(CHUNKED + b"what?\r\n"), UNREACHABLE),
    "garbage: a length below zero": (say(OK + b"Content-Length: -5\r\n\r\n{}"), UNTRUSTED),
    "garbage: two lengths": (say(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), UNREACHABLE),
    "garbage: a page": (say(OK + b"\r\n<!doctype html><title>Sign in</title>"), UNTRUSTED),
    "garbage: no body": (say(OK + b"Content-Length: 0\r\n\r\n"), UNTRUSTED),
    "garbage: 204": (say(b"HTTP/1.1 204 No Content\r\n\r\n"), UNTRUSTED),
    "garbage: 304": (say(b"HTTP/1.1 304 Not Modified\r\n\r\n"), UNTRUSTED),
    "garbage: 404 of another server": (say(b"HTTP/1.1 404 Not Found\r\n\r\n<html>"), UNTRUSTED),
    "garbage: a redirect": (say(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"), UNTRUSTED),
    "garbage: 511 sign in": (say(b"HTTP/1.1 511 Network Authentication Required\r\n\r\n<html>"), UNREACHABLE),
    "garbage: JSON that is no object": (say(OK + b"\r\n[1, 2]"), UNTRUSTED),
    "garbage: deep JSON": (say(OK + b"\r\n" + b"[" * 200_000), UNTRUSTED),
    "garbage: a token that is none": (say(OK + b'\r\n{"token": "a.b.c"}'), UNTRUSTED),
    "garbage: a token that is no text": (say(OK + b'\r\n{"token": 7}'), UNTRUSTED),
    "busy: 429": (say(b"HTTP/1.1 429 Too Many Requests\r\n\r\n"), UNREACHABLE),
    "busy: 502": (say(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), UNREACHABLE),
    "busy: 503 for an hour": (say(b"HTTP/1.1 503 Unavailable\r\nRetry-After: 3600\r\n\r\n"), UNREACHABLE),
    "broken: 500": (say(b"HTTP/1.1 500 Internal Server Error\r\n\r\n"), UNREACHABLE),
}


def client_for(url: str, key: SigningKey, **settings: Any) -> Client:
    settings = {"timeout_seconds": TIMEOUT_SECONDS, "retry_policy": RetryPolicy(first_pause_seconds=0.002), **settings}
    return Client(url, pinned(key), CARD, hardware=HARDWARE, state_dir=None, **settings)


@contextmanager
def in_time() -> Iterator[None]:
    """Three tries that each end by their timeout, or all of it long before the ample one: both are this."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 3 * TIMEOUT_SECONDS + SLACK_SECONDS


def timeout_for(fault: str) -> float:
    return TIMEOUT_SECONDS if fault.startswith(("slow", "drip", "flood")) else AMPLE_SECONDS


def calls(client: Client, folder: Path) -> dict[str, Callable[[], object]]:
    return {
        "open": client.open,
        "report": lambda: client.report("导出报表"),
        "execute": lambda: client.execute("汇率换算", {"amount": 100}),
        "download": lambda: client.download("model.bin", folder / "model.bin"),
    }


@pytest.mark.parametrize("call", ["open", "report", "execute", "download"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_server_is_the_promised_error_in_the_promised_time(
    fault: str, call: str, signing_key: SigningKey, tmp_path: Path
) -> None:
    respond, promised = FAULTS[fault]
    with serving(respond) as local:
        client = client_for(local.url, signing_key, timeout_seconds=timeout_for(fault))
        with in_time(), pytest.raises(KadunError) as caught:
            calls(client, tmp_path)[call]()
    assert type(caught.value) is promised
    assert caught.value.message
    assert not caught.value.message.isascii()
    if call == "execute":
        assert len(local.seen) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_server_of_files_is_a_promised_error_in_the_promised_time(
    fault: str, server: FakeServer, tmp_path: Path
) -> None:
    def listing(request: dict[str, Any]) -> Any:
        claims = claims_for(request)
        claims["files"] = [{"name": "model.bin", "size": 100_000, "sha256": "0" * 64, "url": "/v1/files/model.bin"}]
        return verdict_response(server.key.token(claims))

    server.genuine = listing  # type: ignore[method-assign]

    def respond(handler: Handler, body: bytes) -> None:
        (forged(server) if handler.command == "POST" else FAULTS[fault][0])(handler, body)

    target = tmp_path / "model.bin"
    target.write_bytes(b"old")
    with serving(respond) as local:
        client = client_for(local.url, server.key, timeout_seconds=timeout_for(fault))
        with in_time(), pytest.raises(KadunError) as caught:
            client.download("model.bin", target)
    assert caught.value.message
    assert target.read_bytes() == b"old"


@contextmanager
def deaf_port() -> Iterator[str]:
    """A port whose queue is full: whoever calls gets no answer at all, as behind a firewall that drops packets."""
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
def silent_port() -> Iterator[str]:
    """Takes every connection and never says a word, so that no greeting of TLS comes to its end."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def hanging_up_port(heard: list[bytes] | None = None) -> Iterator[str]:
    """Takes every connection, hears the first word, and hangs up."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _address = listener.accept()
                except OSError:
                    return
                with connection:
                    word = connection.recv(100_000)
                    if heard is not None:
                        heard.append(word)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("call", ["open", "report", "execute", "download"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("port", [deaf_port, closed_port, silent_port, hanging_up_port])
def test_a_server_that_is_down_is_unreachable_in_the_promised_time(
    port: Callable[[], Any], scheme: str, call: str, signing_key: SigningKey, tmp_path: Path
) -> None:
    with port() as address:
        client = client_for(f"{scheme}://{address}", signing_key)
        with in_time(), pytest.raises(ServerUnreachable, match="无法连接验证服务器"):
            calls(client, tmp_path)[call]()


def test_a_connection_cut_in_the_midst_of_tls_greeting_is_tried_again(signing_key: SigningKey) -> None:
    heard: list[bytes] = []
    with hanging_up_port(heard) as address, pytest.raises(ServerUnreachable):
        client_for(f"https://{address}", signing_key, timeout_seconds=AMPLE_SECONDS).open()
    assert len(heard) == 3


def test_a_name_that_leads_nowhere_is_unreachable(signing_key: SigningKey) -> None:
    with pytest.raises(ServerUnreachable):
        client_for("https://card.invalid", signing_key, timeout_seconds=5).open()


def test_a_heartbeat_outlives_every_fault(server: FakeServer) -> None:
    """One server with all the faults, one after the other; the heartbeat goes on, and tells of each."""
    faults = [respond for name, (respond, _error) in FAULTS.items() if not name.startswith(("slow", "drip", "flood"))]
    waiting = iter(faults)
    told: list[KadunError] = []

    def respond(handler: Handler, body: bytes) -> None:
        next(waiting, forged(server))(handler, body)

    beaten = threading.Event()
    truth = server.genuine
    server.genuine = lambda request: beaten.set() or truth(request)  # type: ignore[method-assign,func-returns-value]
    with serving(respond) as local:
        client = client_for(local.url, server.key, retry_policy=RetryPolicy(tries=1))
        with Heartbeat(client, interval_seconds=0.01, on_unreachable=told.append) as heartbeat:
            # The one fault that asks for an hour would be heeded; the others are what this test is about.
            heartbeat._after_failure = lambda _failure: 0.01  # type: ignore[method-assign]  # noqa: SLF001
            assert beaten.wait(30)
    assert len(told) >= len(faults) - 1


def test_a_retry_after_over_http_is_heeded(server: FakeServer) -> None:
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
def test_an_answer_with_a_valid_token_is_final_whatever_stands_around_it(status: int, server: FakeServer) -> None:
    def respond(handler: Handler, body: bytes) -> None:
        handler.send(status, server.exchange(handler.path, body, "").body, Retry_After="1")

    with serving(respond) as local:
        assert client_for(local.url, server.key).open().accepted
    assert len(local.seen) == 1


def test_the_systems_proxy_is_used(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY")
    with serving(forged(server)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert client_for("http://card.invalid", server.key, timeout_seconds=5).open().accepted
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
def test_a_proxy_that_does_not_let_us_through_is_no_answer(
    base_url: str, answer: bytes, signing_key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    with serving(say(answer)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("https_proxy", proxy.url)
        with in_time(), pytest.raises((ServerUnreachable, UntrustedAnswer)):
            client_for(base_url, signing_key).open()


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "socks5://127.0.0.1:1", "nonsense://x", "http://", "::::"])
def test_a_proxy_that_there_is_not_is_unreachable(
    proxy: str, signing_key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("http_proxy", proxy)
    with in_time(), pytest.raises(ServerUnreachable) as caught:
        client_for("http://card.invalid", signing_key).open()
    assert caught.value.detail
