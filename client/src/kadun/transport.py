"""HTTP with limits on time, size and redirects.

A thread of its own sends each request and reads the response, so that a call always returns in time: socket timeouts
limit neither the name lookup nor a response that arrives byte by byte. When the caller leaves, the thread ends.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import queue
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import urllib3

from kadun import connections
from kadun.connections import Connections
from kadun.errors import ServerUnreachable, UntrustedAnswer
from kadun.responses import Response

LARGEST_BODY_BYTES = 1024 * 1024
_FEWEST_BYTES = 1024  # of a large file, within the timeout
_PIECE_BYTES = 256 * 1024
_PIECES_AHEAD = 4

_log = logging.getLogger("kadun")


class Transport(Protocol):
    """Sends requests; a client can be given another one, in tests for example."""

    def exchange(self, path: str, body: bytes | None, language: str) -> Response:
        """POST `body` to a path of the server, or GET the path without a body."""

    def stream(self, path: str, headers: Mapping[str, str]) -> AbstractContextManager[Stream]:
        """GET a large file from a path of the server, piece by piece."""


class HttpTransport:
    """Sends each request over a new connection, through the system's proxies. The arguments are those of `Client`."""

    def __init__(
        self,
        base_url: str,
        *,
        ca_file: str | os.PathLike[str] | None = None,
        public_cas: bool = False,
        timeout_seconds: float = 10,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"base_url must look like https://card.example.com, not {base_url!r}")
        if timeout_seconds <= 0:
            raise ValueError("timeout_seconds must be positive")
        if parts.scheme == "http":
            _warn_of_plain_http(parts.hostname)
        self._base_url = base_url.rstrip("/")
        self._verify: bool | str = True
        self._certificates = [] if ca_file is None else connections.certificate_files(ca_file)
        if self._certificates:
            self._verify = connections.public_cas() if public_cas else str(self._certificates[0])
        self._timeout_seconds = timeout_seconds

    def exchange(self, path: str, body: bytes | None, language: str) -> Response:
        """See `Transport`."""
        deadline = time.monotonic() + self._timeout_seconds
        headers = {"Accept": "application/json", "Accept-Language": "en" if language == "en" else "zh-CN,zh"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        with self.stream(path, headers, body) as answer:
            content, told = answer.content(deadline), answer.headers
            announced = "Content-Length" in told or "Transfer-Encoding" in told
            if answer.status == requests.codes.ok and not announced and not content:
                # http.client takes a closed connection for the end of the headers.
                raise ServerUnreachable("the connection broke during the headers", passing=True)
            return Response(answer.status, content, told.get("Retry-After"), told.get("Content-Type"))

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Iterator[Stream]:
        """See `Transport`."""
        sockets, items = Connections(), queue.Queue[Any](maxsize=_PIECES_AHEAD)
        try:
            arguments = (path, body, headers, sockets, items)
            threading.Thread(target=self._receive, args=arguments, name="kadun-request", daemon=True).start()
            yield Stream(items, self._timeout_seconds)
        finally:
            sockets.cut()  # which ends the thread
            with suppress(queue.Empty):  # makes room for what it still hands over
                while True:
                    items.get_nowait()

    def _receive(
        self, path: str, body: bytes | None, headers: Mapping[str, str], sockets: Connections, items: queue.Queue[Any]
    ) -> None:
        # Status and headers, then the pieces of the body, and an empty one at its end; or an exception.
        try:
            with requests.Session() as session:
                for scheme in ("http://", "https://"):
                    session.mount(scheme, connections.Adapter(sockets, self._certificates))
                with session.request(
                    "GET" if body is None else "POST",
                    self._base_url + path,
                    data=body,
                    # Nothing is to be decompressed, so that the limit on the size holds.
                    headers={"User-Agent": "kadun", "Accept-Encoding": "identity", **headers},
                    auth=lambda request: request,  # without the password that a customer's .netrc has for this host
                    timeout=self._timeout_seconds,
                    verify=self._verify,
                    allow_redirects=False,  # another address is not the configured server
                    stream=True,
                ) as response:
                    items.put((response.status_code, response.headers))
                    read = response.raw.read1  # what has arrived, without waiting for more
                    while not sockets.over and (piece := read(_PIECE_BYTES, decode_content=False)):
                        items.put(piece)
                    items.put(b"")
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            items.put(_too_late(self._timeout_seconds))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as failure:
            items.put(_unreachable(failure, sent=sockets.opened))
        except Exception as failure:  # noqa: BLE001 - raised in the caller's thread
            items.put(failure)
        finally:
            sockets.cut()


class Stream:
    """A response that is being received."""

    status: int
    headers: Mapping[str, str]  # with case-insensitive names

    def __init__(self, items: queue.Queue[Any], timeout_seconds: float) -> None:
        """Wait for status and headers."""
        self._items = items
        self._timeout_seconds = timeout_seconds
        self.status, self.headers = self._next(timeout_seconds)

    def pieces(self) -> Iterator[bytes]:
        """Yield the body, while at least 1 KiB arrives within the timeout. It may end early: compare its length."""
        waited, received = 0.0, 0
        while True:
            started = time.monotonic()
            try:
                piece = self._next(self._timeout_seconds - waited)
            except ServerUnreachable as failure:
                raise ServerUnreachable(failure.detail, passing=True) from None
            waited += time.monotonic() - started  # the time that the caller takes between two pieces does not count
            if not piece:
                return
            received += len(piece)
            if received >= _FEWEST_BYTES:
                waited, received = 0.0, 0
            yield piece

    def content(self, deadline: float) -> bytes:
        """Return the whole body, if it arrives before a time of the monotonic clock and is not too large."""
        content = bytearray()
        while piece := self._next(deadline - time.monotonic()):
            content += piece
            if len(content) > LARGEST_BODY_BYTES:
                raise UntrustedAnswer("the response is larger than 1 MiB")
        return bytes(content)

    def _next(self, seconds: float) -> Any:  # noqa: ANN401 - status and headers once, then the pieces
        try:
            item = self._items.get(timeout=max(seconds, 0))
        except queue.Empty:
            raise _too_late(self._timeout_seconds) from None
        if isinstance(item, Exception):
            raise item
        return item


@cache  # once for each host
def _warn_of_plain_http(host: str) -> None:
    try:
        is_this_machine = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_this_machine = host == "localhost" or host.endswith(".localhost")
    if not is_this_machine:
        _log.warning(
            "plain http:// to %s: an attacker who can change the connection gets KERNAL_DATA_KEY; use https://", host
        )


def _too_late(seconds: float) -> ServerUnreachable:
    return ServerUnreachable(f"no answer within {seconds:g} seconds")


# A retry does not help: an untrusted certificate, no TLS, an invalid address of a proxy.
_PERMANENT = (requests.exceptions.SSLError, requests.exceptions.InvalidSchema, ssl.SSLCertVerificationError)


def _unreachable(failure: Exception, *, sent: bool) -> ServerUnreachable:
    """Return the error with the innermost cause, such as `ConnectionRefusedError`; the outer exceptions are vague."""
    if isinstance(failure, ValueError) and not isinstance(failure, (ssl.SSLError, requests.exceptions.InvalidSchema)):
        # Without its text, which may contain the password of a proxy. The kind is UnicodeEncodeError, for example.
        kind = type(failure).__name__
        return ServerUnreachable(f"{kind}: the address of a proxy or of the server is invalid", sent=sent)
    cause: BaseException = failure
    while (inner := _inner(cause)) is not None:
        cause = inner
    passing = _broke(cause) or not (isinstance(failure, _PERMANENT) or isinstance(cause, _PERMANENT))
    return ServerUnreachable(f"{type(cause).__name__}: {cause}", passing=passing, sent=sent)


def _inner(failure: BaseException) -> BaseException | None:
    argument = failure.args[0] if failure.args else None  # urllib3 passes some causes on as an argument only
    return failure.__cause__ or failure.__context__ or (argument if isinstance(argument, BaseException) else None)


def _broke(cause: BaseException) -> bool:
    """Return whether a TLS connection broke, as opposed to a failure of TLS such as an untrusted certificate."""
    if isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):  # the other side closed it
        return True
    # OpenSSL 3.2 and later report some resets as an error of the system: "[SYS] unknown error".
    return isinstance(cause, ssl.SSLError) and cause.library == "SYS"
