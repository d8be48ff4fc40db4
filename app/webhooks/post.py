"""One HTTPS request to an address that somebody has typed, so that it reaches nothing but what is public.

The name is resolved once and all its addresses are checked; the connection goes to one of those, and the certificate
is checked for the name. No redirect is followed, no proxy of the environment used.
"""

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from app.domain.texts import RefusedError
from app.domain.webhooks import Target, is_public, read_url

SECONDS = 10.0
"""For connecting, and for each answer of the network."""
TOTAL_SECONDS = 20.0
MAX_ANSWER_BYTES = 4096
_EXCERPT = 200
_HTTPS = 443
Address = tuple[socket.AddressFamily, tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a request: the answer's `status`, or None and why there is none; `error` is technical.

    `error` is made printable and cut: it is from outside, and PostgreSQL refuses a NUL.
    """

    status: int | None
    error: str | None

    def __post_init__(self) -> None:
        if self.error is not None:
            printable = "".join(c if c.isprintable() else " " for c in self.error).strip()[:_EXCERPT].rstrip()
            object.__setattr__(self, "error", printable or None)

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver has the message."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004  # successful, by RFC 9110


class _NotSentError(Exception):
    pass


def post(url: str, headers: Mapping[str, str], body: bytes, *, allow_private: bool) -> Sent:
    """Send a POST request; never raise for what the network or the receiver does.

    Args:
        url: As `app.domain.webhooks.read_url` accepts it.
        headers: All but the host's and the length's.
        body: The body.
        allow_private: Whether it may go to addresses that are not public.
    """
    try:
        target = read_url(url)
        addresses = _resolve(target, allow_private=allow_private)
        return _exchange(target, addresses, headers, body)
    except RefusedError as error:
        return Sent(None, error.text.en)
    except _NotSentError as error:
        return Sent(None, str(error))
    except ssl.SSLError as error:
        return Sent(None, f"TLS: {getattr(error, 'verify_message', '') or error.reason}")
    except TimeoutError:
        return Sent(None, "no answer in time")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Sent(None, f"{type(error).__name__}: {error}")


def _resolve(target: Target, *, allow_private: bool) -> Sequence[Address]:
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _NotSentError(f"the name {target.host} does not resolve") from error
    addresses: list[Address] = [(family, (str(address[0]), target.port)) for family, _, _, _, address in found]
    refused = [address for _, (address, _) in addresses if not is_public(address)]
    if refused and not allow_private:
        raise _NotSentError(f"{target.host} is {refused[0]}, which is not a public address")
    return addresses


def _exchange(
    target: Target,
    addresses: Sequence[Address],
    headers: Mapping[str, str],
    body: bytes,
) -> Sent:
    with _connected(addresses) as plain, _ended_in_time(plain):
        secure = _context().wrap_socket(plain, server_hostname=target.host)
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.sock = secure  # no `connect`: it would resolve the name once more
        with contextlib.closing(connection):
            connection.request("POST", target.path, body, {**headers, "Host": _host(target)})
            answer = connection.getresponse()
            # The status decides. A body that breaks off or does not end makes no failure of a delivery.
            sent = Sent(answer.status, None)
            return sent if sent.is_delivered else Sent(sent.status, _excerpt(answer))


def _excerpt(answer: http.client.HTTPResponse) -> str:
    try:
        return answer.read(MAX_ANSWER_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"the body cannot be read: {type(error).__name__}: {error}"


@cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _host(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    return host if target.port == _HTTPS else f"{host}:{target.port}"


@contextlib.contextmanager
def _connected(addresses: Sequence[Address]) -> Iterator[socket.socket]:
    failure: OSError | None = None
    for family, address in addresses[:4]:
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(SECONDS / 2)
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
            continue
        connection.settimeout(SECONDS)
        with contextlib.closing(connection):
            yield connection
        return
    raise failure or _NotSentError("the name has no address")


@contextlib.contextmanager
def _ended_in_time(connection: socket.socket) -> Iterator[None]:
    """Break the connection off after `TOTAL_SECONDS`, however many single bytes come before each time-out."""
    same = connection.dup()  # TLS takes the descriptor over

    def end() -> None:
        with contextlib.suppress(OSError):
            same.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(TOTAL_SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        same.close()
