"""Sends files of any length as they are read, a few at once; a failure midway breaks the connection."""

import threading
from collections.abc import Iterator
from itertools import chain, islice
from urllib.parse import quote

import falcon

from app import hub
from app.http.problems import unavailable

CONTENT_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json", "txt": "text/plain; charset=utf-8"}
_BOM = "\ufeff"
"""Begins each CSV: without it Excel does not read it as UTF-8. Our import skips it."""
MAX_EXPORTS = 2
_PIECES = 500


class Streams:
    """The exports in progress in this process: at most `MAX_EXPORTS`, as each holds a page of rows in memory."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(MAX_EXPORTS)

    def send(
        self,
        response: falcon.Response,
        pieces: Iterator[str],
        *,
        output_format: str,
        name: str,
    ) -> None:
        """Answer with the pieces of a file as a download.

        Args:
            response: The answer.
            pieces: May query the database as it goes; the first ones are read before anything is sent.
            output_format: One of `CONTENT_TYPES`.
            name: The name of the file.
        """
        if not self._places.acquire(blocking=False):
            raise unavailable()
        stream = _Stream(chain([_BOM], pieces) if output_format == "csv" else pieces, self._places)
        try:
            stream.read_ahead()  # a failure here can still be answered properly
        except BaseException:
            stream.close()
            raise
        response.content_type = CONTENT_TYPES[output_format]
        response.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(name)}")
        response.stream = stream


class _Stream:
    """An iterable of bytes for WSGI; gunicorn calls `close` however the sending ends.

    An exception midway reaches gunicorn, which breaks the connection: half a list must not look complete.
    """

    def __init__(self, pieces: Iterator[str], places: threading.BoundedSemaphore) -> None:
        self._pieces = pieces
        self._places: threading.BoundedSemaphore | None = places
        self._ahead: bytes | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._ahead is None:
            with hub.unhurried():
                hub.in_thread(self.read_ahead)
        found, self._ahead = self._ahead, None
        if not found:
            raise StopIteration
        return found

    def read_ahead(self) -> None:
        self._ahead = "".join(islice(self._pieces, _PIECES)).encode()

    def close(self) -> None:
        if self._places is not None:
            self._places.release()
            self._places = None
