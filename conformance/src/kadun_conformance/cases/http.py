"""Responses without a verdict, without an end, too large, or elsewhere; and rejections that the server did not sign.

A padded or compressed body, and the address of a redirect, contain a genuine verdict: a client that opens has read
without a limit, or followed the redirect.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any, Callable

from kadun_conformance.case import by_newest
from kadun_conformance.crypto import ABSENT, changed
from kadun_conformance.forger import Connection, Forger, Reply, verdict

if TYPE_CHECKING:
    from kadun_conformance.case import Answer

_MIB = b" " * (1 << 20)
_TOO_MANY_MIB = 32
_DRIP_SECONDS = 0.2
_UPDATE = {"latest_version": "99", "update_url": "https://attacker.example/"}
_HTML = {"Content-Type": "text/html; charset=utf-8"}
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
Write = Callable[[Connection], None]


def _says(body: object, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _forger: Reply(status, raw, {"Content-Type": "application/json", **named})


def _page(status: int = 200) -> Answer:
    text = "<!doctype html><title>Wi-Fi</title><form>请登录 / please sign in</form>"
    return lambda _forger: Reply(status, text.encode(), _HTML)


def _in_clear(forger: Forger) -> Reply:
    """Send the claims of a token without a token."""
    body = changed(forger.claims(), {"KERNAL_DATA_KEY": forger.vendor.identity, "token": ABSENT})
    return Reply(200, json.dumps(body).encode())


def _forged_as(content_type: str, status: int = 200) -> Answer:
    """Send a token with a forged signature under another media type or status."""
    return lambda f: Reply(status, verdict(f.token_in_current_name()).body, {"Content-Type": content_type})


def _redirect(status: int, location: str = "/elsewhere/v1/verify") -> Answer:
    """Redirect, by default to an address of this server that answers genuinely."""
    return lambda _forger: Reply(status, b"", {"Location": location})


def _genuine(forger: Forger) -> bytes:
    return verdict(forger.token()).body


def _padded(forger: Forger) -> Reply:
    body = _genuine(forger)

    def write(connection: Connection) -> None:
        connection.send(_HEAD + b"Content-Length: %d\r\n\r\n" % (_TOO_MANY_MIB * len(_MIB) + len(body)))
        for _ in range(_TOO_MANY_MIB):
            connection.send(_MIB)
        connection.send(body)

    return Reply(write=write)


def _gzip_bomb(forger: Forger) -> Reply:
    body = gzip.compress(_MIB * _TOO_MANY_MIB + _genuine(forger))
    return Reply(200, body, {"Content-Type": "application/json", "Content-Encoding": "gzip"})


def _forever(head: bytes, piece: bytes, pause_seconds: float = 0) -> Write:
    def write(connection: Connection) -> None:
        connection.send(head)
        while not connection.closing.wait(pause_seconds):
            connection.send(piece)

    return write


def _silent(connection: Connection) -> None:
    connection.closing.wait()


def _half(*, then_silent: bool) -> Answer:
    def answer(forger: Forger) -> Reply:
        body = _genuine(forger)

        def write(connection: Connection) -> None:
            connection.send(_HEAD + b"Content-Length: %d\r\n\r\n" % (len(body) + 1_000) + body[: len(body) // 2])
            if then_silent:
                connection.closing.wait()

        return Reply(write=write)

    return answer


def _raw(write: Write) -> Answer:
    return lambda _forger: Reply(write=write)


def _sends(raw: bytes) -> Answer:
    return _raw(lambda connection: connection.send(raw))


def _rejection(**changes: Any) -> Answer:  # noqa: ANN401 - any JSON
    return lambda f: verdict(f.token(f.rejection("CARD_FROZEN", **changes)), 403, "CARD_FROZEN")


def _rejection_unsigned(forger: Forger) -> Reply:
    token = forger.token(forger.rejection("CARD_FROZEN"), header={"alg": "none"}, sign=lambda _signed: b"")
    return verdict(token, 403, "CARD_FROZEN")


def _rejection_by_stranger(forger: Forger) -> Reply:
    return verdict(forger.token_in_current_name(forger.rejection("CARD_FROZEN")), 403, "CARD_FROZEN")


def _update_by_stranger(forger: Forger) -> Reply:
    token = forger.token_in_current_name(forger.rejection("UPDATE_REQUIRED", **_UPDATE))
    return verdict(token, 403, "UPDATE_REQUIRED")


_CHUNK = b"%X\r\n" % len(_MIB) + _MIB + b"\r\n"
_SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
ANSWERS: dict[str, Answer] = {
    "html-200": _page(),
    "html-403": _page(403),
    "html-511": _page(511),
    "empty-200": _says(b""),
    "empty-204": lambda _f: Reply(204, b"", {}),
    "object-empty": _says({}),
    "json-true": _says(b"true"),
    "json-list": _says([]),
    "json-broken": _says(b'{"code":"OK","accepted":true,"token":"ey'),
    "json-deep": _says(b"[" * 200_000),
    "not-utf8": _says(b'{"token":"\xff\xfe"}'),
    "token-absent": _says({"code": "OK", "accepted": True}),
    "token-null": _says({"code": "OK", "token": None}),
    "token-true": _says({"code": "OK", "token": True}),
    "token-empty": _says({"code": "OK", "token": ""}),
    "token-dots": _says({"code": "OK", "token": ".."}),
    "claims-in-clear": _in_clear,
    "type-text": _forged_as("text/plain"),
    "type-html": _forged_as("text/html"),
    "type-jwt": _forged_as("application/jwt"),
    "status-201": _forged_as("application/json", 201),
    "status-500": _forged_as("application/json", 500),
    "problem-200": _says({"code": "OK", "status": 200}, Content_Type="application/problem+json"),
    "retry-after-years": _says({"code": "UNAVAILABLE"}, 503, Retry_After="99999999"),
    "retry-after-negative": _says({"code": "TOO_MANY_REQUESTS"}, 429, Retry_After="-1"),
    "retry-after-date": _says({"code": "UNAVAILABLE"}, 503, Retry_After="Fri, 01 Jan 2100 00:00:00 GMT"),
    **{f"redirect-{status}": _redirect(status) for status in (301, 302, 303, 307, 308)},
    "redirect-loop": _redirect(307, "/v1/verify"),
    "redirect-loop-302": _redirect(302, "/v1/verify"),
    "redirect-file": _redirect(302, "file:///etc/hosts"),
    "redirect-nowhere": lambda _f: Reply(302, b"", {}),
    "oversized": _padded,
    "gzip-bomb": _gzip_bomb,
    "endless": _raw(_forever(_HEAD + b"\r\n", _MIB)),
    "endless-chunks": _raw(_forever(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", _CHUNK)),
    "endless-headers": _raw(_forever(_HEAD, b"X-Filler: " + b"x" * 1_000 + b"\r\n")),
    "endless-continue": _raw(_forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n")),
    "drip-body": _raw(_forever(_HEAD + b"\r\n", b" ", _DRIP_SECONDS)),
    "drip-headers": _raw(_forever(_HEAD + b"X-Slow: ", b"x", _DRIP_SECONDS)),
    "silent": _raw(_silent),
    "half-then-silent": _half(then_silent=True),
    "half": _half(then_silent=False),
    "reset": _raw(lambda connection: connection.reset()),
    "not-http": _sends(b"220 smtp.example.com ESMTP\r\n"),
    "switching": _sends(_SWITCHING),
    "length-negative": _sends(_HEAD + b"Content-Length: -5\r\n\r\n{}"),
    "update-without-token": _says({"code": "UPDATE_REQUIRED", "message": "请更新。", **_UPDATE}, 403),
    "update-problem": _says({"code": "UPDATE_REQUIRED", **_UPDATE}, 403, Content_Type="application/problem+json"),
    "update-by-stranger": _update_by_stranger,
    "no-without-token": _says({"code": "CARD_FROZEN", "message": "卡密已被冻结。"}, 403),
    "no-by-stranger": _rejection_by_stranger,
    "no-unsigned": _rejection_unsigned,
    "no-nonce-other": _rejection(nonce="A" * 32),
    "no-sub-other": _rejection(sub="Z" * 32),
    "key-set-endless": by_newest,
    "key-set-drip": by_newest,
    "key-set-silent": by_newest,
}
KEY_SETS: dict[str, Answer] = {
    "key-set-endless": _raw(_forever(_HEAD + b"\r\n", _MIB)),
    "key-set-drip": _raw(_forever(_HEAD + b"\r\n", b" ", _DRIP_SECONDS)),
    "key-set-silent": _raw(_silent),
}
