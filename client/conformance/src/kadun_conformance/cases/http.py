"""Responses without a verdict, without an end, too large, or elsewhere; and rejections that the server did not sign.

A compressed body and the address of a redirect contain a genuine verdict: a client that opens has read without a
limit, or followed the redirect.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

from kadun_conformance.cases.keys import by_newest
from kadun_conformance.forger import Forger, Reply, verdict

if TYPE_CHECKING:
    from io import BufferedIOBase
    from threading import Event

    from kadun_conformance.forger import Answer

_MIB = b" " * (1 << 20)
_PAGE = "<!doctype html><title>Wi-Fi</title><form>请登录 / please sign in</form>"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def _says(body: object, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _forger: Reply(status, raw, {"Content-Type": "application/json", **named})


def _gzip_bomb(forger: Forger) -> Reply:
    body = gzip.compress(_MIB * 32 + forger.accept().body)
    return Reply(200, body, {"Content-Type": "application/json", "Content-Encoding": "gzip"})


def _forever(head: bytes, piece: bytes, pause_seconds: float = 0) -> Answer:
    def write(connection: BufferedIOBase, closing: Event) -> None:
        connection.write(head)
        while not closing.wait(pause_seconds):
            connection.write(piece)

    return lambda _forger: Reply(write=write)


ANSWERS: dict[str, Answer] = {
    "html-200": _says(_PAGE.encode(), Content_Type="text/html; charset=utf-8"),
    "json-deep": _says(b"[" * 200_000),
    "not-utf8": _says(b'{"token":"\xff\xfe"}'),
    "token-absent": _says({"code": "OK", "accepted": True}),
    "claims-in-clear": lambda f: Reply(200, json.dumps({**f.claims(), "KERNAL_DATA_KEY": f.vendor.identity}).encode()),
    "status-500": lambda f: Reply(500, verdict(f.token_in_current_name()).body),
    "retry-after-years": _says({"code": "UNAVAILABLE"}, 503, Retry_After="99999999"),
    "redirect-302": _says(b"", 302, Location="/elsewhere/v1/verify"),  # which answers genuinely
    "redirect-307": _says(b"", 307, Location="/elsewhere/v1/verify"),
    "redirect-loop": _says(b"", 307, Location="/v1/verify"),
    "redirect-file": _says(b"", 302, Location="file:///etc/hosts"),
    "update-without-token": _says({"code": "UPDATE_REQUIRED", "update_url": "https://attacker.example/"}, 403),
    "no-by-stranger": lambda f: verdict(f.token_in_current_name(f.rejection("CARD_FROZEN")), 403, "CARD_FROZEN"),
    "gzip-bomb": _gzip_bomb,
    "endless": _forever(_HEAD + b"\r\n", _MIB),
    "endless-headers": _forever(_HEAD, b"X-Filler: " + b"x" * 1_000 + b"\r\n"),
    "drip-body": _forever(_HEAD + b"\r\n", b" ", pause_seconds=0.2),
    "silent": lambda _f: Reply(write=lambda _connection, closing: closing.wait()),
    "closed": lambda _f: Reply(write=lambda _connection, _closing: None),
    "key-set-endless": by_newest,
}
KEY_SETS = {"key-set-endless": ANSWERS["endless"]}
