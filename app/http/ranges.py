"""Conditional and range requests for immutable bytes (RFC 9110, sections 13 and 14)."""

import re

import falcon

_RANGE = re.compile(r"bytes=(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))", re.IGNORECASE)


def is_known(request: falcon.Request, etag: str) -> bool:
    """Tell whether the client already has these bytes (`If-None-Match`)."""
    given = request.get_header("IF-NONE-MATCH") or ""
    known = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return etag in known or known == ["*"]


def wanted_part(request: falcon.Request, size: int, etag: str) -> range | None:
    """Return the offsets of the bytes to send of `size`, None for all of them.

    All bytes are always a valid answer: they are sent for an unclear range, for several ranges, and for a range of
    another version (`If-Range`). Raise ValueError where no byte of the part exists.
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
        return range(start, end)
    if start == 0:
        return None  # of an empty file
    raise ValueError("no such bytes")
