"""Strict decoding of JSON and base64url from untrusted sources."""

from __future__ import annotations

import base64
import json
import re
from typing import Any, NoReturn

from kadun.errors import UntrustedAnswer

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


def parse_json_object(raw: bytes, what: str) -> dict[str, Any]:
    """Parse one JSON object in UTF-8, without duplicate names, NaN or Infinity."""
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        value = None  # raised below, so that the error has no context that quotes the input
    if not isinstance(value, dict):
        raise UntrustedAnswer(f"{what} is not a JSON object")
    return value


def decode_base64url(text: str, what: str) -> bytes:
    """Decode base64url without padding, in its canonical spelling only.

    Python's decoder skips other characters and ignores unused bits, so that a changed token could still pass.
    """
    if _BASE64URL.fullmatch(text):
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError:
            raw = b""
        if encode_base64url(raw) == text:
            return raw
    raise UntrustedAnswer(f"{what} is not canonical base64url")


def encode_base64url(raw: bytes) -> str:
    """Encode as base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _no_constant(_name: str) -> NoReturn:
    raise ValueError
