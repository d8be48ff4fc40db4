"""Reads a large response piece by piece, with a time limit for each piece."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Callable, Union, final

from kadun.errors import ServerUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    import requests

    from kadun.connections import Connections

FEWEST_BYTES = 1024
_PIECE_BYTES = 256 * 1024
_PIECES_AHEAD = 4
_POLL_SECONDS = 0.2
_Item = Union["tuple[int, Mapping[str, str]]", bytes, Exception]


@final
class Stream:
    """A response whose body is being received. A context manager; the request is sent on entering.

    A separate thread reads, as in `HttpTransport.exchange`: socket timeouts limit neither the name lookup nor a server
    that sends a byte now and then.

    Attributes:
        status: the HTTP status.
        headers: the headers, with case-insensitive names.
    """

    status: int
    headers: Mapping[str, str]

    def __init__(
        self,
        response: Callable[[], AbstractContextManager[requests.Response]],
        timeout_seconds: float,
        connections: Connections,
    ) -> None:
        self._response = response
        self._connections = connections
        self._timeout_seconds = timeout_seconds
        self._items: queue.Queue[_Item] = queue.Queue(maxsize=_PIECES_AHEAD)
        self._left = threading.Event()

    def __enter__(self) -> Stream:
        """Send the request and wait for status and headers.

        Raises:
            ServerUnreachable: they did not arrive in time.
        """
        threading.Thread(target=self._read, name="kadun-stream", daemon=True).start()
        try:
            head = self._next(self._timeout_seconds)
        except BaseException:  # Ctrl+C: __exit__ will not run
            self._leave()
            raise
        if not isinstance(head, tuple):
            self._leave()
            raise head if isinstance(head, Exception) else self._too_late()
        self.status, self.headers = head
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the connection, which ends the thread."""
        self._leave()

    def _leave(self) -> None:
        self._left.set()
        self._connections.cut()

    def pieces(self) -> Iterator[bytes]:
        """Yield the body. It may end early: compare it with the length.

        Raises:
            ServerUnreachable: the connection broke, or less than 1 KiB arrived within the timeout. It can be resumed.
        """
        waited, received = 0.0, 0
        while True:
            started = time.monotonic()
            piece = self._next(self._timeout_seconds - waited)
            waited += time.monotonic() - started  # the time that the caller takes between two pieces does not count
            if piece is None or isinstance(piece, ServerUnreachable):
                raise ServerUnreachable((piece or self._too_late()).detail, passing=True)
            if not isinstance(piece, bytes):
                raise piece if isinstance(piece, Exception) else TypeError("a second head")
            if not piece:
                return
            received += len(piece)
            if received >= FEWEST_BYTES:
                waited, received = 0.0, 0
            yield piece

    def _next(self, seconds: float) -> _Item | None:
        try:
            return self._items.get(timeout=max(seconds, 0))
        except queue.Empty:
            return None

    def _read(self) -> None:
        try:
            with self._response() as response:
                self._hand_over((response.status_code, response.headers))
                while not self._left.is_set():
                    piece = response.raw.read1(_PIECE_BYTES, decode_content=False)
                    self._hand_over(piece)
                    if not piece:
                        return
        except Exception as failure:  # noqa: BLE001 - raised in the caller's thread
            self._hand_over(failure)

    def _hand_over(self, item: _Item) -> None:
        while not self._left.is_set():
            try:
                self._items.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue  # the caller is slow, or has left
            return

    def _too_late(self) -> ServerUnreachable:
        return ServerUnreachable(f"no answer within {self._timeout_seconds:g} seconds")
