"""Responses without a verdict, without an end, too large, or elsewhere; and rejections that the server did not sign.

A padded or compressed body, and the address of a redirect, contain a genuine verdict: a client that opens has read
without a limit, or followed the redirect.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Callable

from kadun_conformance.cases.keys import by_newest
from kadun_conformance.crypto import ABSENT, changed
from kadun_conformance.forger import Connection, Forger, Reply, verdict

if TYPE_CHECKING:
    from kadun_conformance.forger import Answer

_MIB = b" " * (1 << 20)
_TOO_MANY_MIB = 32
_DRIP_SECONDS = 0.2
_UPDATE = {"latest_version": "99", "update_url": "https://attacker.example/"}
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def _says(body: object, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _forger: Reply(status, raw, {"Content-Type": "application/json", **named})


def _page(status: int) -> Answer:
    text = "<!doctype html><title>Wi-Fi</title><form>请登录 / please sign in</form>"
    return _says(text.encode(), status, Content_Type="text/html; charset=utf-8")


def _in_clear(forger: Forger) -> Reply:
    """Send the claims of a token without a token."""
    body = changed(forger.claims(), {"KERNAL_DATA_KEY": forger.vendor.identity, "token": ABSENT})
    return Reply(200, json.dumps(body).encode())


def _padded(forger: Forger) -> Reply:
    body = forger.accept().body

    def write(connection: Connection) -> None:
        connection.send(_HEAD + b"Content-Length: %d\r\n\r\n" % (_TOO_MANY_MIB * len(_MIB) + len(body)))
        for _ in range(_TOO_MANY_MIB):
            connection.send(_MIB)
        connection.send(body)

    return Reply(write=write)


def _gzip_bomb(forger: Forger) -> Reply:
    body = gzip.compress(_MIB * _TOO_MANY_MIB + forger.accept().body)
    return Reply(200, body, {"Content-Type": "application/json", "Content-Encoding": "gzip"})


def _raw(write: Callable[[Connection], object]) -> Answer:
    return lambda _forger: Reply(write=write)


def _forever(head: bytes, piece: bytes, pause_seconds: float = 0) -> Answer:
    def write(connection: Connection) -> None:
        connection.send(head)
        while not connection.closing.wait(pause_seconds):
            connection.send(piece)

    return _raw(write)


def _rejection_by_stranger(code: str, **changes: str) -> Answer:
    return lambda f: verdict(f.token_in_current_name(f.rejection(code, **changes)), 403, code)


ANSWERS: dict[str, Answer] = {
    "html-200": _page(200),
    "html-511": _page(511),
    "json-broken": _says(b'{"code":"OK","accepted":true,"token":"ey'),
    "json-deep": _says(b"[" * 200_000),
    "not-utf8": _says(b'{"token":"\xff\xfe"}'),
    "token-absent": _says({"code": "OK", "accepted": True}),
    "claims-in-clear": _in_clear,
    "status-500": lambda f: Reply(500, verdict(f.token_in_current_name()).body),
    "retry-after-years": _says({"code": "UNAVAILABLE"}, 503, Retry_After="99999999"),
    "redirect-302": _says(b"", 302, Location="/elsewhere/v1/verify"),  # which answers genuinely
    "redirect-307": _says(b"", 307, Location="/elsewhere/v1/verify"),
    "redirect-loop": _says(b"", 307, Location="/v1/verify"),
    "redirect-file": _says(b"", 302, Location="file:///etc/hosts"),
    "update-without-token": _says({"code": "UPDATE_REQUIRED", "message": "请更新。", **_UPDATE}, 403),
    "update-by-stranger": _rejection_by_stranger("UPDATE_REQUIRED", **_UPDATE),
    "no-without-token": _says({"code": "CARD_FROZEN", "message": "卡密已被冻结。"}, 403),
    "no-by-stranger": _rejection_by_stranger("CARD_FROZEN"),
    "oversized": _padded,
    "gzip-bomb": _gzip_bomb,
    "endless": _forever(_HEAD + b"\r\n", _MIB),
    "endless-headers": _forever(_HEAD, b"X-Filler: " + b"x" * 1_000 + b"\r\n"),
    "drip-body": _forever(_HEAD + b"\r\n", b" ", _DRIP_SECONDS),
    "drip-headers": _forever(_HEAD + b"X-Slow: ", b"x", _DRIP_SECONDS),
    "silent": _raw(lambda connection: connection.closing.wait()),
    "reset": _raw(lambda connection: connection.reset()),
    "key-set-endless": by_newest,
    "key-set-drip": by_newest,
}
KEY_SETS = {"key-set-endless": ANSWERS["endless"], "key-set-drip": ANSWERS["drip-body"]}
