"""HTTP with limits on time, size and redirects."""

from __future__ import annotations

import ipaddress
import logging
import queue
import ssl
import threading
import time
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import requests
import urllib3

from kadun import certificates
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

_log = logging.getLogger("kadun")


class Transport(Protocol):
    """Sends requests; a client can be given another one, in tests for example."""

    def exchange(self, path: str, body: bytes | None, language: str) -> Response:
        """POST `body` to a path of the server, or GET the path without a body.

        Raises:
            ServerUnreachable: no complete response arrived in time.
            UntrustedAnswer: the response is larger than any genuine one.
        """

    def stream(self, path: str, headers: Mapping[str, str]) -> AbstractContextManager[Stream]:
        """GET a large file from a path of the server, piece by piece.

        Raises:
            ServerUnreachable: the response did not begin in time; while reading, too few bytes arrived in time.
        """


class HttpTransport:
    """Sends requests over HTTP or HTTPS through the system's proxies, each over a new connection."""

    def __init__(
        self,
        base_url: str,
        *,
        ca_file: str | os.PathLike[str] | None = None,
        public_cas: bool = False,
        timeout_seconds: float = 10,
    ) -> None:
        """Prepare the transport; nothing is sent yet.

        Raises:
            ValueError: the address is not http(s)://host[:port][/path], or the timeout is not positive, or
                `ca_file` contains no certificate.
            FileNotFoundError: `ca_file` does not exist, or is a folder without a `*.pem` file.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"base_url must look like https://card.example.com, not {base_url!r}")
        if timeout_seconds <= 0:
            raise ValueError("timeout_seconds must be positive")
        if parts.scheme == "http":
            _warn_of_plain_http(parts.hostname)
        self._base_url = base_url.rstrip("/")
        self._verify: bool | str = True
        self._certificates: str | None = None
        if ca_file is not None:
            files = certificates.files_of(ca_file)
            self._certificates = certificates.read(files)
            self._verify = _public_cas() if public_cas else str(files[0])
        self._timeout_seconds = timeout_seconds

    def exchange(self, path: str, body: bytes | None, language: str) -> Response:
        """See `Transport`.

        A separate thread does the work, so that this call always returns in time: socket timeouts limit neither the
        name lookup nor a response that arrives byte by byte. After the timeout the connection is closed, which ends
        the thread.
        """
        outcome: queue.Queue[Response | Exception] = queue.Queue(maxsize=1)
        connections = Connections()

        def work() -> None:
            try:
                outcome.put(self._exchange(path, body, language, connections))
            except Exception as failure:  # noqa: BLE001 - raised in the caller's thread
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
        """Yield the response with its body unread; failures until the end of the block become `ServerUnreachable`."""
        always = {
            "Accept-Encoding": "identity",  # nothing to decompress, so that the limit on the size holds
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
                    allow_redirects=False,  # another address is not the configured server
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

    def _session(self, connections: Connections) -> requests.Session:
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, WatchedAdapter(connections, self._certificates))
        return session

    def _content(self, response: requests.Response, deadline: float) -> bytes:
        content = bytearray()
        while len(content) <= LARGEST_BODY_BYTES:
            if time.monotonic() > deadline:
                raise self._too_late()
            chunk = response.raw.read1(_CHUNK_BYTES, decode_content=False)  # what has arrived, without waiting for more
            if not chunk:
                if not content and _breaks_off(response):
                    raise ServerUnreachable("the connection broke during the headers", passing=True)
                return bytes(content)
            content += chunk
        raise UntrustedAnswer("the response is larger than 1 MiB")

    def _too_late(self) -> ServerUnreachable:
        return ServerUnreachable(f"no answer within {self._timeout_seconds:g} seconds")


@cache  # once for each host
def _warn_of_plain_http(host: str) -> None:
    if not _is_this_machine(host):
        _log.warning(
            "plain http:// to %s: an attacker who can change the connection gets KERNAL_DATA_KEY; use https://", host
        )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _breaks_off(response: requests.Response) -> bool:
    """Return whether an empty response is incomplete: http.client takes a closed connection for the end of headers."""
    announced = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
    return response.status_code == requests.codes.ok and not announced


# A retry does not help: an untrusted certificate, no TLS, an invalid address of a proxy.
_PERMANENT = (
    requests.exceptions.SSLError,
    requests.exceptions.InvalidSchema,
    ssl.SSLCertVerificationError,  # of a proxy
)
_NEVER_CONNECTED = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    requests.exceptions.InvalidSchema,  # a SOCKS proxy
)


def _unreachable(failure: Exception, *, opened: bool) -> ServerUnreachable:
    """Return the error with the innermost cause, such as `ConnectionRefusedError`; the outer exceptions are vague."""
    if isinstance(failure, ValueError) and not isinstance(failure, (ssl.SSLError, requests.exceptions.InvalidSchema)):
        return _malformed(failure, opened=opened)
    chain: list[BaseException] = [failure]
    while (inner := _inner(chain[-1])) is not None:
        chain.append(inner)
    return ServerUnreachable(
        f"{type(chain[-1]).__name__}: {chain[-1]}",
        passing=_broke(chain[-1]) or not any(isinstance(link, _PERMANENT) for link in (failure, chain[-1])),
        sent=not any(isinstance(link, _NEVER_CONNECTED) for link in chain),
    )


def _inner(failure: BaseException) -> BaseException | None:
    """Return the cause of an exception; urllib3 passes some causes on as an argument only."""
    argument = failure.args[0] if failure.args else None
    return failure.__cause__ or failure.__context__ or (argument if isinstance(argument, BaseException) else None)


def _broke(cause: BaseException) -> bool:
    """Return whether a TLS connection broke, as opposed to a failure of TLS such as an untrusted certificate."""
    if isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):  # the other side closed it
        return True
    # OpenSSL 3.2 and later report some resets as an error of the system: "[SYS] unknown error".
    return isinstance(cause, ssl.SSLError) and cause.library == "SYS"


def _malformed(failure: Exception, *, opened: bool) -> ServerUnreachable:
    """Return the error for an invalid address, without its text, which may contain the password of a proxy."""
    kind = type(failure).__name__  # UnicodeEncodeError, for example
    return ServerUnreachable(f"{kind}: the address of a proxy or of the server is invalid", sent=opened)


def _public_cas() -> str:
    """Return the file or folder of the CAs that requests trusts by default.

    Its path rather than True: with True some releases of requests share one TLS context in the whole process, which
    would then trust `ca_file` for every other connection of the program, too.
    """
    settings = requests.Session().merge_environment_settings("https://", {}, stream=True, verify=True, cert=None)
    return settings["verify"] if isinstance(settings["verify"], str) else requests.utils.DEFAULT_CA_BUNDLE_PATH


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Send no password; by default requests sends one that a customer's .netrc contains for this host."""
    return request
