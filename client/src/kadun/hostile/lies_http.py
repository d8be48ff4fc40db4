"""Answers that are no verdict, never end, lead elsewhere, or are too much; and a no that nobody signed.

Where a body is padded, inflated or led elsewhere, what then comes is an honest verdict: a client that opens has
read without bound, or followed.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any, Callable

from kadun.hostile.forging import ABSENT
from kadun.hostile.world import Forger, Reply, Scenario, Wire, World, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

_WEB, _TRAVEL, _BOUNDS, _NO = "网页 web", "跳转 redirects", "限度 bounds", "假拒绝 forged no"
_MIB = b" " * (1 << 20)
_TOO_MANY_MIB = 32
_DRIP_SECONDS = 0.2
_HTML = {"Content-Type": "text/html; charset=utf-8"}
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
Answer = Callable[[Forger], Reply]


def _says(body: object, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _forger: Reply(status, raw, {"Content-Type": "application/json", **named})


def _page(status: int = 200) -> Answer:
    text = "<!doctype html><title>Wi-Fi</title><form>请登录 / please sign in</form>"
    return lambda _forger: Reply(status, text.encode(), _HTML)


def _in_clear(forger: Forger) -> Reply:
    """What a token would say, without one."""
    body = {**forger.claims(), "KERNAL_DATA_KEY": forger.world.identity, "token": ABSENT}
    return Reply(200, json.dumps({name: value for name, value in body.items() if value is not ABSENT}).encode())


def _forged_as(content_type: str, status: int = 200) -> Answer:
    def answer(forger: Forger) -> Reply:
        stranger = forger.token(key=forger.world.stranger, header={"kid": forger.world.current.kid})
        return Reply(status, verdict(stranger).body, {"Content-Type": content_type})

    return answer


_PAGES: dict[str, Answer] = {
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
}


def _redirect(status: int, location: str) -> Answer:
    return lambda _forger: Reply(status, b"", {"Location": location})


# `/elsewhere/…` answers honestly, so that a client which opens has followed.
_REDIRECTS: dict[str, Answer] = {
    **{f"redirect-{status}": _redirect(status, "/elsewhere/v1/verify") for status in (301, 302, 303, 307, 308)},
    "redirect-loop": _redirect(307, "/v1/verify"),
    "redirect-loop-302": _redirect(302, "/v1/verify"),
    "redirect-file": _redirect(302, "file:///etc/hosts"),
    "redirect-nowhere": lambda _f: Reply(302, b"", {}),
}


def _honest(forger: Forger) -> bytes:
    return verdict(forger.token()).body


def _padded(forger: Forger) -> Reply:
    body = _honest(forger)

    def write(wire: Wire) -> None:
        wire.send(_HEAD + b"Content-Length: %d\r\n\r\n" % (_TOO_MANY_MIB * len(_MIB) + len(body)))
        for _ in range(_TOO_MANY_MIB):
            wire.send(_MIB)
        wire.send(body)

    return Reply(wire=write)


def _bomb(forger: Forger) -> Reply:
    body = gzip.compress(_MIB * _TOO_MANY_MIB + _honest(forger))
    return Reply(200, body, {"Content-Type": "application/json", "Content-Encoding": "gzip"})


def _forever(head: bytes, piece: bytes, pause_seconds: float = 0) -> Callable[[Wire], None]:
    def write(wire: Wire) -> None:
        wire.send(head)
        while not wire.released.wait(pause_seconds):
            wire.send(piece)

    return write


def _silent(wire: Wire) -> None:
    wire.released.wait()


def _half(forger: Forger) -> Reply:
    body = _honest(forger)
    sent = _HEAD + b"Content-Length: %d\r\n\r\n" % (len(body) + 1_000) + body[: len(body) // 2]
    return Reply(wire=lambda wire: wire.send(sent))


def _half_then_silent(forger: Forger) -> Reply:
    half = _half(forger).wire

    def write(wire: Wire) -> None:
        if half is not None:
            half(wire)
        wire.released.wait()

    return Reply(wire=write)


def _raw(write: Callable[[Wire], None]) -> Answer:
    return lambda _forger: Reply(wire=write)


def _spoken(raw: bytes) -> Answer:
    return _raw(lambda wire: wire.send(raw))


_CHUNK = b"%X\r\n" % len(_MIB) + _MIB + b"\r\n"
_ENDLESS: dict[str, Answer] = {
    "oversized": _padded,
    "gzip-bomb": _bomb,
    "endless": _raw(_forever(_HEAD + b"\r\n", _MIB)),
    "endless-chunks": _raw(_forever(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", _CHUNK)),
    "endless-headers": _raw(_forever(_HEAD, b"X-Filler: " + b"x" * 1_000 + b"\r\n")),
    "endless-continue": _raw(_forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n")),
    "drip-body": _raw(_forever(_HEAD + b"\r\n", b" ", _DRIP_SECONDS)),
    "drip-headers": _raw(_forever(_HEAD + b"X-Slow: ", b"x", _DRIP_SECONDS)),
    "silent": _raw(_silent),
    "half-then-silent": _half_then_silent,
    "half": _half,
    "reset": _raw(lambda wire: wire.reset()),
    "not-http": _spoken(b"220 smtp.example.com ESMTP\r\n"),
    "switching": _spoken(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
    "length-negative": _spoken(_HEAD + b"Content-Length: -5\r\n\r\n{}"),
}

_KEY_SETS: dict[str, Callable[[Wire], None]] = {
    "key-set-endless": _forever(_HEAD + b"\r\n", _MIB),
    "key-set-drip": _forever(_HEAD + b"\r\n", b" ", _DRIP_SECONDS),
    "key-set-silent": _silent,
}


def _no(**changes: Any) -> Answer:  # noqa: ANN401 - any JSON
    return lambda f: verdict(f.token(f.no("CARD_FROZEN", **changes)), 403, "CARD_FROZEN")


def _no_by_stranger(forger: Forger) -> Reply:
    no = forger.token(forger.no("CARD_FROZEN"), key=forger.world.stranger, header={"kid": forger.world.current.kid})
    return verdict(no, 403, "CARD_FROZEN")


def _no_unsigned(forger: Forger) -> Reply:
    no = forger.token(forger.no("CARD_FROZEN"), header={"alg": "none"}, sign=lambda _signed: b"")
    return verdict(no, 403, "CARD_FROZEN")


_FORGED_NOES: dict[str, Answer] = {
    "no-without-token": _says({"code": "CARD_FROZEN", "message": "卡密已被冻结。"}, 403),
    "no-by-stranger": _no_by_stranger,
    "no-unsigned": _no_unsigned,
    "no-nonce-other": _no(nonce="A" * 32),
    "no-sub-other": _no(sub="Z" * 32),
}


def lies() -> Iterator[Scenario]:
    """All of them."""
    for group, rows in ((_WEB, _PAGES), (_TRAVEL, _REDIRECTS), (_NO, _FORGED_NOES)):
        for name, answer in rows.items():
            yield Scenario(name, group, answer)
    for name, answer in _ENDLESS.items():
        yield Scenario(name, _BOUNDS, answer)
    for name, talk in _KEY_SETS.items():
        yield Scenario(name, _BOUNDS, _by_newest, _keys(talk))


def _by_newest(forger: Forger) -> Reply:
    return verdict(forger.token(key=forger.world.newest))


def _keys(talk: Callable[[Wire], None]) -> Callable[[World], Reply]:
    return lambda _world: Reply(wire=talk)
