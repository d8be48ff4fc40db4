"""HTTP, with a bound on everything: time, size, redirects."""

from __future__ import annotations

import queue
import ssl
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import requests
import urllib3

from kadun.connections import Connections, WatchedAdapter
from kadun.errors import ServerUnreachable, UntrustedAnswer
from kadun.responses import Response
from kadun.streaming import Stream

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

LARGEST_BODY_BYTES = 1024 * 1024
_CHUNK_BYTES = 64 * 1024


class Transport(Protocol):
    """How requests travel; another one may be handed to the client, in tests for instance."""

    def exchange(self, path: str, body: bytes | None, language: str) -> Response:
        """POST `body` to a path of the server, or GET the path when there is none.

        Raises:
            ServerUnreachable: no whole answer came in time.
            UntrustedAnswer: the answer is larger than any of ours.
        """

    def stream(self, path: str, headers: Mapping[str, str]) -> AbstractContextManager[Stream]:
        """GET something large from a path of the server, piece by piece.

        Raises:
            ServerUnreachable: the answer did not begin in time; while it is read, too few bytes came in time.
        """


class HttpTransport:
    """Requests over HTTP or HTTPS through the system's proxies, a new connection each."""

    def __init__(
        self,
        base_url: str,
        *,
        ca_file: str | os.PathLike[str] | None = None,
        timeout_seconds: float = 10,
    ) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            ValueError: the address is not http(s)://host[:port][/path], or the timeout is not positive.
            FileNotFoundError: `ca_file` is not there.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"base_url must look like https://card.example.com, not {base_url!r}")
        if timeout_seconds <= 0:
            raise ValueError("timeout_seconds must be positive")
        if ca_file is not None and not Path(ca_file).is_file():
            raise FileNotFoundError(f"ca_file {ca_file} does not exist")
        self._base_url = base_url.rstrip("/")
        self._verify: bool | str = True if ca_file is None else str(ca_file)
        self._timeout_seconds = timeout_seconds

    def exchange(self, path: str, body: bytes | None, language: str) -> Response:
        """See `Transport`.

        A thread of its own does the work: the timeouts of sockets neither bound the look-up of a name nor an
        answer that comes one byte at a time, and this call must return in time whatever the other side does.
        Whoever gives up cuts the connection, so that the thread ends, too.
        """
        outcome: queue.Queue[Response | Exception] = queue.Queue(maxsize=1)
        connections = Connections()

        def work() -> None:
            try:
                outcome.put(self._exchange(path, body, language, connections))
            except Exception as failure:  # noqa: BLE001 - carried over to the caller's thread, and raised there
                outcome.put(failure)

        threading.Thread(target=work, name="kadun-exchange", daemon=True).start()
        try:
            result = outcome.get(timeout=self._timeout_seconds)
        except queue.Empty:
            raise self._too_late() from None
        finally:
            connections.cut()
        if isinstance(result, Exception):
            raise result
        return result

    def stream(self, path: str, headers: Mapping[str, str]) -> AbstractContextManager[Stream]:
        """See `Transport`."""
        connections = Connections()
        return Stream(lambda: self._response(path, None, headers, connections), self._timeout_seconds, connections)

    def _exchange(self, path: str, body: bytes | None, language: str, connections: Connections) -> Response:
        deadline = time.monotonic() + self._timeout_seconds
        headers = {
            "Accept": "application/json",
            "Accept-Language": "en" if language == "en" else "zh-CN,zh",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        with self._response(path, body, headers, connections) as response:
            content = self._content(response, deadline)
            told = response.headers
            return Response(response.status_code, content, told.get("Retry-After"), told.get("Content-Type"))

    @contextmanager
    def _response(
        self, path: str, body: bytes | None, headers: Mapping[str, str], connections: Connections
    ) -> Iterator[requests.Response]:
        """The answer with its body still to be read; failures until the end of the block become ours."""
        always = {
            "Accept-Encoding": "identity",  # nothing to inflate, so the bound on the size is a real one
            "User-Agent": "kadun",
        }
        try:
            with (
                self._session(connections) as session,
                session.request(
                    "GET" if body is None else "POST",
                    self._base_url + path,
                    data=body,
                    headers={**always, **headers},
                    auth=_no_credentials,
                    timeout=self._timeout_seconds,
                    verify=self._verify,
                    allow_redirects=False,  # wherever it leads, that is not the server that we were told
                    stream=True,
                ) as response,
            ):
                yield response
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            raise self._too_late() from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as failure:
            raise _unreachable(failure, opened=connections.opened) from None
        finally:
            connections.cut()

    @staticmethod
    def _session(connections: Connections) -> requests.Session:
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, WatchedAdapter(connections))
        return session

    def _content(self, response: requests.Response, deadline: float) -> bytes:
        content = bytearray()
        while len(content) <= LARGEST_BODY_BYTES:
            if time.monotonic() > deadline:
                raise self._too_late()
            chunk = response.raw.read1(_CHUNK_BYTES, decode_content=False)  # what is there, without waiting for more
            if not chunk:
                if not content and _breaks_off(response):
                    raise ServerUnreachable("the connection broke off in the midst of the headers", passing=True)
                return bytes(content)
            content += chunk
        raise UntrustedAnswer("the answer is larger than 1 MiB")

    def _too_late(self) -> ServerUnreachable:
        return ServerUnreachable(f"no answer within {self._timeout_seconds:g} seconds")


def _breaks_off(response: requests.Response) -> bool:
    """Whether an empty answer is none: where a connection ends, http.client takes the headers to end."""
    announced = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
    return response.status_code == requests.codes.ok and not announced


# What asking again cannot mend: a certificate that is not believed, no TLS at all, a proxy's address that is none.
_LASTING = (
    requests.exceptions.SSLError,
    requests.exceptions.InvalidSchema,
)
_NEVER_CONNECTED = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    requests.exceptions.InvalidSchema,  # a SOCKS proxy
)


def _unreachable(failure: Exception, *, opened: bool) -> ServerUnreachable:
    """Our own error, with the innermost reason, such as `ConnectionRefusedError`: what stands around it is vague."""
    if isinstance(failure, ValueError) and not isinstance(failure, (ssl.SSLError, requests.exceptions.InvalidSchema)):
        return _malformed(failure, opened=opened)
    chain: list[BaseException] = [failure]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    cut_off = isinstance(chain[-1], (ssl.SSLEOFError, ssl.SSLZeroReturnError))  # in the midst of TLS's greeting
    return ServerUnreachable(
        f"{type(chain[-1]).__name__}: {chain[-1]}",
        passing=cut_off or not isinstance(failure, _LASTING),
        sent=not any(isinstance(link, _NEVER_CONNECTED) for link in chain),
    )


def _malformed(failure: Exception, *, opened: bool) -> ServerUnreachable:
    """For what cannot be asked at all. Not its text: that may quote a proxy's user and password."""
    kind = type(failure).__name__  # UnicodeEncodeError, for instance
    return ServerUnreachable(f"{kind}: the address of a proxy, or of the server, is none", sent=opened)


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Send no password, not even one that a customer's .netrc holds for this host (requests would)."""
    return request
