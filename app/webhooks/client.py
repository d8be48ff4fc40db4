"""The client of the process that sends the requests of webhooks: HTTP over its Unix socket."""

import http.client
from collections.abc import Mapping
from pathlib import Path

import msgspec

from app.domain.webhooks.webhooks import REQUEST_SECONDS, Sent
from app.runtime.unix_http import ask

_SECONDS = REQUEST_SECONDS + 40  # a name may take long to resolve
_MAX_BYTES = 64 * 1024


def send(socket_path: Path, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
    """Send a POST request through the process behind a socket, as `app.webhooks.post.post` does."""
    asked = msgspec.json.encode({"url": url, "headers": headers, "body": body.decode()})
    try:
        _, answer = ask(socket_path, "POST /send", asked, seconds=_SECONDS, max_bytes=_MAX_BYTES)
        # Not believed without a look: the process deals with the outside.
        return msgspec.json.decode(answer, type=Sent)
    except (OSError, http.client.HTTPException, ValueError, msgspec.MsgspecError) as error:
        return Sent(None, f"the process that sends webhooks does not answer: {error!r}")
