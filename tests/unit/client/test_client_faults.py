"""A server that is down, slow, resetting, dripping, half-closed or sends garbage: which error the client raises.

Nothing here depends on the load of the machine. Where a call can only end by its timeout, the timeout passes as soon
as the server has stalled; everywhere else it is so long that only the fault itself can end the call.
"""

from __future__ import annotations

import contextlib
import queue
from typing import TYPE_CHECKING, Any

import pytest
from kadun import Client, KadunError, ServerUnreachable, UntrustedAnswer
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
from tests.support.client.ports import closed_port, deaf_port, hanging_up_port, silent_port
from tests.support.client.raw_responses import CHUNKED, LONG, OK, drip, half_close, repeat, send, stall
from tests.support.client.timing import LONG_SECONDS, StalledQueue
from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.client.local_http import Respond

SHORT_SECONDS = 0.1  # for the port where no connection is established
TIMED_OUT = "no answer within"


UNREACHABLE, UNTRUSTED = ServerUnreachable, UntrustedAnswer

FAULTS: dict[str, tuple[Respond, type[KadunError]]] = {
    "slow: no byte": (send(b"", stall), UNREACHABLE),
    "slow: after the status": (send(OK, stall), UNREACHABLE),
    "slow: after the headers": (send(LONG, stall), UNREACHABLE),
    "slow: during the body": (send(LONG + b'{"token": "', stall), UNREACHABLE),
    "slow: during a chunk": (send(CHUNKED + b"ff\r\nabc", stall), UNREACHABLE),
    "drip: the status": (send(b"", drip(b"H")), UNREACHABLE),
    "drip: headers": (send(OK, drip(b"X-More: 1\r\n")), UNREACHABLE),
    "drip: one header": (send(OK + b"X-Long: ", drip(b"x")), UNREACHABLE),
    "drip: the body": (send(LONG, drip(b" ")), UNREACHABLE),
    "drip: chunks": (send(CHUNKED, drip(b"1\r\n \r\n")), UNREACHABLE),
    "drip: the length of a chunk": (send(CHUNKED, drip(b"0")), UNREACHABLE),
    "drip: 100 Continue": (send(b"", drip(b"HTTP/1.1 100 Continue\r\n\r\n")), UNREACHABLE),
    "flood: 100 Continue": (send(b"", repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)), UNREACHABLE),
    "flood: headers": (send(OK, repeat(b"X-More: 1\r\n" * 100)), UNREACHABLE),
    "flood: one header": (send(OK + b"X-Long: ", repeat(b"x" * 1000)), UNREACHABLE),
    "reset: immediately": (send(b"", Handler.reset), UNREACHABLE),
    "reset: after the status": (send(OK, Handler.reset), UNREACHABLE),
    "reset: during the body": (send(LONG + b"{", Handler.reset), UNREACHABLE),
    "closed: immediately": (send(b""), UNREACHABLE),
    "closed: during the headers": (send(OK + b"Content-Le"), UNREACHABLE),
    "closed: during the body": (send(LONG + b"{"), UNREACHABLE),
    "closed: during a chunk": (send(CHUNKED + b"ff\r\nabc"), UNREACHABLE),
    "half-closed: immediately": (send(b"", half_close), UNREACHABLE),
    "half-closed: during the headers": (send(OK + b"Content-Le", half_close), UNREACHABLE),
    "half-closed: during the body": (send(LONG + b"{", half_close), UNREACHABLE),
    "half-closed: a whole answer without a length": (send(OK + b"\r\n<html>", half_close), UNTRUSTED),
    "garbage: not HTTP": (send(b"220 mail.example.com ESMTP\r\n"), UNREACHABLE),
    "garbage: bytes": (send(bytes(range(256)) * 300), UNREACHABLE),
    "garbage: a TLS alert": (send(b"\x15\x03\x01\x00\x02\x02\x50"), UNREACHABLE),
    "garbage: a status that is invalid": (send(b"HTTP/1.1 banana\r\n\r\n"), UNREACHABLE),
    "garbage: HTTP of an unknown version": (send(b"HTTP/9.9 200 OK\r\n\r\n"), UNREACHABLE),
    "garbage: chunks that are invalid": (send(CHUNKED + b"what?\r\n"), UNREACHABLE),
    "garbage: a length below zero": (send(OK + b"Content-Length: -5\r\n\r\n{}"), UNTRUSTED),
    "garbage: two lengths": (send(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), UNREACHABLE),
    "garbage: a page": (send(OK + b"\r\n<!doctype html><title>Sign in</title>"), UNTRUSTED),
    "garbage: no body": (send(OK + b"Content-Length: 0\r\n\r\n"), UNTRUSTED),
    "garbage: 204": (send(b"HTTP/1.1 204 No Content\r\n\r\n"), UNTRUSTED),
    "garbage: 304": (send(b"HTTP/1.1 304 Not Modified\r\n\r\n"), UNTRUSTED),
    "garbage: 404 of another server": (send(b"HTTP/1.1 404 Not Found\r\n\r\n<html>"), UNTRUSTED),
    "garbage: a redirect": (send(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"), UNTRUSTED),
    "garbage: 511 sign in": (send(b"HTTP/1.1 511 Network Authentication Required\r\n\r\n<html>"), UNREACHABLE),
    "garbage: JSON that is not an object": (send(OK + b"\r\n[1, 2]"), UNTRUSTED),
    "garbage: deep JSON": (send(OK + b"\r\n" + b"[" * 200_000), UNTRUSTED),
    "garbage: a token that is invalid": (send(OK + b'\r\n{"token": "a.b.c"}'), UNTRUSTED),
    "garbage: a token that is not text": (send(OK + b'\r\n{"token": 7}'), UNTRUSTED),
    "busy: 429": (send(b"HTTP/1.1 429 Too Many Requests\r\n\r\n"), UNREACHABLE),
    "busy: 502": (send(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), UNREACHABLE),
    "busy: 503 for an hour": (send(b"HTTP/1.1 503 Unavailable\r\nRetry-After: 3600\r\n\r\n"), UNREACHABLE),
    "broken: 500": (send(b"HTTP/1.1 500 Internal Server Error\r\n\r\n"), UNREACHABLE),
}


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


def calls(client: Client, folder: Path) -> dict[str, Callable[[], object]]:
    return {
        "open": client.open,
        "report": lambda: client.report(REPORT),
        "execute": lambda: client.execute("汇率换算", {"amount": 100}),
        "download": lambda: client.download("model.bin", folder / "model.bin"),
    }


@for_each("call", ["open", "execute"])
@for_each("fault", FAULTS)
def test_a_faulty_server_ends_in_the_documented_error(
    fault: str, call: str, signing_key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    respond, documented = FAULTS[fault]
    with prepared_for(fault, monkeypatch), serving(respond) as local, pytest.raises(KadunError) as caught:
        calls(client_for(local.url, signing_key), tmp_path)[call]()
    assert type(caught.value) is documented
    assert caught.value.message
    assert not caught.value.message.isascii()
    assert (TIMED_OUT in caught.value.detail) is stalls(fault)
    if call == "execute":
        assert len(local.seen) == 1
    elif fault.startswith(("closed", "reset")):
        assert len(local.seen) == 3


@for_each("fault", FAULTS)
def test_a_faulty_file_server_leaves_the_target_unchanged(
    fault: str, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    with prepared_for(fault, monkeypatch), serving(respond) as local, pytest.raises(KadunError) as caught:
        client_for(local.url, server.key).download("model.bin", target)
    assert caught.value.message
    assert target.read_bytes() == b"old"


@for_each("call", ["open", "report", "execute", "download"])
@for_each("scheme", ["http", "https"])
@for_each("port", [deaf_port, closed_port, silent_port, hanging_up_port])
def test_a_server_that_is_down_is_unreachable(
    port: Callable[[], Any],
    scheme: str,
    call: str,
    signing_key: SigningKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = SHORT_SECONDS if port is deaf_port else LONG_SECONDS
    with port() as address, prepared_for("slow" if port is silent_port else "", monkeypatch):
        client = client_for(f"{scheme}://{address}", signing_key, timeout_seconds=seconds)
        with pytest.raises(ServerUnreachable, match="无法连接验证服务器"):
            calls(client, tmp_path)[call]()
    assert list(tmp_path.iterdir()) == []


def test_a_connection_closed_during_the_tls_handshake_is_retried(signing_key: SigningKey) -> None:
    heard: list[bytes] = []
    with hanging_up_port(heard) as address, pytest.raises(ServerUnreachable):
        client_for(f"https://{address}", signing_key).open()
    assert len(heard) == 3


@for_each("status", [200, 403, 429, 502, 503, 504])
def test_a_response_with_a_valid_token_is_final_whatever_its_status(status: int, server: FakeServer) -> None:
    def respond(handler: Handler, body: bytes) -> None:
        handler.send(status, server.exchange(handler.path, body, "").body, Retry_After="1")

    with serving(respond) as local:
        assert client_for(local.url, server.key).open().accepted
    assert len(local.seen) == 1
