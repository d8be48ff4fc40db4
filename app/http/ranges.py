"""Conditional and range requests for bytes that never change under their ETag (RFC 9110, sections 13 and 14)."""

import re
from typing import NamedTuple

import falcon

_RANGE = re.compile(r"bytes=(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))", re.IGNORECASE)


class Part(NamedTuple):
    """Some bytes of a file: the first one's number, and how many."""

    start: int
    length: int


def is_known(request: falcon.Request, etag: str) -> bool:
    """Tell whether the client says that it has these bytes already (`If-None-Match`)."""
    given = request.get_header("IF-NONE-MATCH") or ""
    known = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return etag in known or known == ["*"]


def wanted_part(request: falcon.Request, size: int, etag: str) -> Part | None:
    """Return what part of `size` bytes is asked for, None when the whole is.

    The whole is always right, so it answers what is unclear, what asks for several parts, and what asks for a part
    of another version (`If-Range`).

    Raises:
        ValueError: no byte of the part exists.
    """
    match = _RANGE.fullmatch((request.get_header("RANGE") or "").strip())
    if match is None or request.method != "GET" or request.get_header("IF-RANGE", default=etag).strip() != etag:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(size - int(suffix), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
    if start < end:
        return Part(start, end - start)
    if start == 0:
        return None  # of an empty file
    raise ValueError("no such bytes")
