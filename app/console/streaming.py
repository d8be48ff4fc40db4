"""Sends files of any length as they are read, a few at once; a failure midway breaks the connection."""

import threading
import time
from collections.abc import Iterator
from itertools import chain, islice
from urllib.parse import quote

import falcon

from app.http.problems import unavailable

CONTENT_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json", "txt": "text/plain; charset=utf-8"}
_BOM = "\ufeff"
"""Begins each CSV: without it Excel does not read it as UTF-8. Our import skips it."""
MAX_EXPORTS = 2
"""The number of exports at once in this process: each holds a page of rows in memory."""
_PIECES, _PAUSE_SECONDS = 125, 0.01
"""How many lines are made at once, and the pause after them, in which customers are answered."""
_places = threading.BoundedSemaphore(MAX_EXPORTS)


def send(response: falcon.Response, pieces: Iterator[str], *, output_format: str, name: str) -> None:
    """Answer with the pieces of a file as a download; they may query the database as they go."""
    if not _places.acquire(blocking=False):
        raise unavailable()
    stream = _encoded(chain([_BOM], pieces) if output_format == "csv" else pieces)
    next(stream)  # a failure here can still be answered properly
    response.content_type = CONTENT_TYPES[output_format]
    response.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(name)}")
    response.stream = stream


def _encoded(pieces: Iterator[str]) -> Iterator[bytes]:
    """Yield nothing first, then the file; a failure breaks the connection: half a list must not look complete."""

    def read_ahead() -> bytes:
        return "".join(islice(pieces, _PIECES)).encode()

    try:
        ahead = read_ahead()
        yield b""
        while ahead:
            yield ahead
            time.sleep(_PAUSE_SECONDS)
            ahead = read_ahead()
    finally:
        _places.release()
