"""The process that sends the requests of webhooks: `python -m app.webhooks`. It has a network, and no secret."""

import os
import sys
from functools import partial
from http import HTTPStatus
from socketserver import ThreadingUnixStreamServer

import msgspec

from app.runtime import unix_server
from app.runtime.environment import SettingsError, missing, value
from app.webhooks.post import post

MAX_REQUEST_BYTES = 64 * 1024
_SOCKET = "KADUN_WEBHOOKS_SOCKET"


class _Request(msgspec.Struct):
    url: str
    headers: dict[str, str]
    body: str


def server() -> ThreadingUnixStreamServer:
    """Return the server, listening on the socket of the settings."""
    path = value(os.environ, _SOCKET)
    if path is None:
        raise missing(_SOCKET)
    answer = partial(_answer, value(os.environ, "KADUN_WEBHOOK_PRIVATE"))
    made = unix_server.listen(path, answer, MAX_REQUEST_BYTES)
    made.daemon_threads = True
    return made


def main() -> None:
    """Serve until a signal."""
    try:
        with server() as serving:
            serving.serve_forever()
    except SettingsError as error:
        sys.exit(f"kadun: {error}")


def _answer(allow_private: bool, _request: str, body: bytes) -> tuple[HTTPStatus, bytes]:  # noqa: FBT001  # partial's
    try:
        asked = msgspec.json.decode(body, type=_Request)
    except msgspec.MsgspecError as error:
        return HTTPStatus.BAD_REQUEST, msgspec.json.encode({"error": str(error)})
    sent = post(asked.url, asked.headers, asked.body.encode(), allow_private=allow_private)
    return HTTPStatus.OK, msgspec.json.encode(sent)


if __name__ == "__main__":
    main()
