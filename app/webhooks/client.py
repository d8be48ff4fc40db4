"""The client of the process that sends the requests of webhooks: HTTP over its Unix socket."""

import http.client
import json
from collections.abc import Mapping
from pathlib import Path

from app.unix_http import UnixConnection
from app.webhooks.post import TOTAL_SECONDS, Sent

_SECONDS = TOTAL_SECONDS + 40  # a name may take long to resolve
_MAX_BYTES = 64 * 1024


class WebhooksClient:
    """Sends requests through the process behind a socket. Threads may share it."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
        """Send a POST request, as `app.webhooks.post.post` does."""
        asked = json.dumps({"url": url, "headers": dict(headers), "body": body.decode()}).encode()
        connection = UnixConnection(self._socket_path, _SECONDS)
        try:
            connection.request("POST", "/send", asked, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read(_MAX_BYTES))
            return _checked(answer["status"], answer["error"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            return Sent(None, f"the process that sends webhooks does not answer: {error!r}")
        finally:
            connection.close()


def _checked(status: object, error: object) -> Sent:
    """Return an answer of the process, which deals with the outside."""
    if isinstance(status, bool) or not isinstance(status, int | None) or not isinstance(error, str | None):
        raise TypeError("not an answer")
    if status is not None and not 100 <= status <= 999:  # noqa: PLR2004  # three digits, by RFC 9110
        raise ValueError("not a status")
    return Sent(status, error)
