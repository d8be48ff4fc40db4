"""Files of any length, sent as they are read: few at once, never held whole, and cut off loudly where they fail."""

import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, tzinfo
from itertools import chain, islice
from typing import Any
from urllib.parse import quote

import falcon

from app.http.files import bound_sending
from app.http.problems import unavailable
from app.services.formatting import json_text

CSV = "text/csv; charset=utf-8"
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
BOM = "\ufeff"
"""Before a CSV for people: without it Excel takes Chinese for another encoding. Our import skips it."""
_PIECES = 500


class Streams:
    """The exports under way in this process.

    Args:
        at_once: So many at once, so that slow readers leave threads for verification.
    """

    def __init__(self, at_once: int) -> None:
        self._places = threading.BoundedSemaphore(at_once)

    def send(  # noqa: PLR0913  # a request, its answer, and all that the answer is
        self,
        request: falcon.Request,
        response: falcon.Response,
        pieces: Iterator[str],
        *,
        content_type: str,
        name: str,
        note: Callable[[], object] = lambda: None,
    ) -> None:
        """Answer with `pieces`, one after the other, as a download called `name`.

        Args:
            request: The request.
            response: Its answer.
            pieces: Text as `csv_lines` and `json_pieces` yield it; may query the database as it goes.
            content_type: `CSV`, `JSON` or `TEXT`.
            name: Of the file.
            note: Called when it is to begin: writes into the journal who takes what.

        Raises:
            Problem: 503, as many are under way as may be.
            DatabaseUnavailableError: the database is away.
        """
        if not self._places.acquire(blocking=False):
            raise unavailable()
        stream = _Stream(pieces, self._places)
        try:
            note()
            stream.read_ahead()  # what fails at once is still an answer of its own
        except BaseException:
            stream.close()
            raise
        bound_sending(request)
        response.content_type = content_type
        response.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(name)}")
        response.stream = stream


class _Stream:
    """Bytes as WSGI wants them; gunicorn calls `close` however the sending ends.

    What is raised midway reaches gunicorn, which then breaks the connection: half a list must not look like a whole.
    """

    def __init__(self, pieces: Iterator[str], places: threading.BoundedSemaphore) -> None:
        self._pieces = pieces
        self._places: threading.BoundedSemaphore | None = places
        self._ahead: bytes | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._ahead is None:
            self.read_ahead()
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


def file_name(what: str, at: datetime, zone: tzinfo, extension: str) -> str:
    """Return what a download is called: what it is, and of when in the vendor's zone."""
    return f"{what}-{at.astimezone(zone):%Y%m%d-%H%M%S}.{extension}"


def json_pieces(items: Iterable[Any]) -> Iterator[str]:
    """Yield one JSON list, an item a line."""
    separator = "["
    for item in items:
        yield separator + json_text(item)
        separator = ",\n"
    yield "[]\n" if separator == "[" else "]\n"


def with_bom(lines: Iterable[str]) -> Iterator[str]:
    """Yield a CSV's lines as Excel reads them."""
    return chain([BOM], lines)
