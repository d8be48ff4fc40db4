"""One HTTPS request to an address that somebody has typed, so that it reaches nothing but what is public.

The name is resolved once and all its addresses are checked; urllib3 connects to one of those, and the certificate is
checked for the name. No redirect is followed, no proxy of the environment used.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress

from urllib3.connection import HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as NoAnswerError
from urllib3.response import BaseHTTPResponse
from urllib3.util.ssl_match_hostname import CertificateError

from app.domain.texts import RefusedError
from app.domain.webhooks import REQUEST_SECONDS, Endpoint, Sent, is_public, read_url

CONNECT_SECONDS = 5.0
MAX_ADDRESSES = 4
MAX_ANSWER_BYTES = 4096
_HTTPS = 443


class _NotSentError(Exception):
    pass


def post(url: str, headers: Mapping[str, str], body: bytes, *, allow_private: bool) -> Sent:
    """Send a POST request, to what is not public only with `allow_private`; never raise for what the network does."""
    try:
        target = read_url(url)
        with closing(_connected(target, _addresses(target, allow_private=allow_private))) as connection:
            return _exchange(connection, target, headers, body)
    except RefusedError as error:
        return Sent(None, error.text.en)
    except _NotSentError as error:
        return Sent(None, str(error))
    except (ssl.SSLError, CertificateError) as error:
        return Sent(None, f"TLS: {getattr(error, 'verify_message', '') or error}")
    except (TimeoutError, NoAnswerError):
        return Sent(None, "no answer in time")
    except (OSError, http.client.HTTPException, HTTPError, ValueError) as error:
        return Sent(None, f"{type(error).__name__}: {error}")


def _addresses(target: Endpoint, *, allow_private: bool) -> Sequence[str]:
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _NotSentError(f"the name {target.host} does not resolve") from error
    addresses = [str(address[0]) for *_, address in found]
    refused = [address for address in addresses if not is_public(address)]
    if refused and not allow_private:
        raise _NotSentError(f"{target.host} is {refused[0]}, which is not a public address")
    return addresses


def _connected(target: Endpoint, addresses: Sequence[str]) -> HTTPSConnection:
    """Connect to the first of the addresses that answers."""
    failure: HTTPError | _NotSentError = _NotSentError("the name has no address")
    for address in addresses[:MAX_ADDRESSES]:
        connection = HTTPSConnection(
            address,
            target.port,
            timeout=CONNECT_SECONDS,
            cert_reqs=ssl.CERT_REQUIRED,
            server_hostname=target.host,
            assert_hostname=target.host,
        )
        try:
            connection.connect()
        except (NewConnectionError, NoAnswerError) as error:
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            connection.timeout = REQUEST_SECONDS
            return connection
    raise failure


def _exchange(connection: HTTPSConnection, target: Endpoint, headers: Mapping[str, str], body: bytes) -> Sent:
    host = f"[{target.host}]" if ":" in target.host else target.host
    host = host if target.port == _HTTPS else f"{host}:{target.port}"
    with _ended_in_time(connection):
        connection.request("POST", target.path, body, {**headers, "Host": host}, preload_content=False)
        answer = connection.getresponse()
        # The status decides. A body that breaks off or does not end makes no failure of a delivery.
        sent = Sent(answer.status, None)
        return sent if sent.is_delivered else Sent(sent.status, _excerpt(answer))


def _excerpt(answer: BaseHTTPResponse) -> str:
    try:
        return answer.read(MAX_ANSWER_BYTES, decode_content=False).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, HTTPError, ValueError) as error:
        return f"the body cannot be read: {type(error).__name__}: {error}"


@contextmanager
def _ended_in_time(connection: HTTPSConnection) -> Iterator[None]:
    """Break the connection off after `REQUEST_SECONDS`, however many single bytes come before each time-out."""
    connected = connection.sock

    def end() -> None:
        if connected is not None:
            with suppress(OSError):
                # Below TLS, whose state belongs to the thread that reads.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    timer = threading.Timer(REQUEST_SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
