"""Single requests, past whatever proxy the caller has."""

import http.client
import json
import secrets
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jwt

from app.domain.policy import OPEN_PROGRAM
from bench.cards import Computer
from bench.errors import BenchError

_DOWNLOAD = "文件下载"  # the function that the SDK names
SECONDS = 60
"""How long an answer is waited for."""


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        """As the base class does, to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(str(self._path))


def question(computer: Computer, function: str = OPEN_PROGRAM, **more: object) -> dict[str, object]:
    """Return the body of a request from a card's computer."""
    return {
        "card_id": computer.card_id,
        "hardware": computer.hardware,
        "function": function,
        "nonce": secrets.token_urlsafe(24),
    } | more


def exchange(
    connection: http.client.HTTPConnection, path: str, document: Mapping[str, object]
) -> tuple[int, dict[str, Any]]:
    """Return the status of the answer to a POST, and its JSON; the connection stays open.

    Raises:
        BenchError: there is no such answer.
    """
    try:
        connection.request("POST", path, json.dumps(document), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        parsed: dict[str, Any] = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise BenchError(f"{path} is not answered as it should be: {error}") from error
    return answer.status, parsed


def post(connection: http.client.HTTPConnection, path: str, document: Mapping[str, object]) -> dict[str, Any]:
    """Return the JSON of the answer to a POST; the connection stays open.

    Raises:
        BenchError: it is no success.
    """
    status, parsed = exchange(connection, path, document)
    if status != http.HTTPStatus.OK:
        raise BenchError(f"{path} is not answered as it should be: {status} {parsed.get('code', '')}")
    return parsed


def links(connection: http.client.HTTPConnection, url: str, computers: Sequence[Computer]) -> list[str]:
    """Return a link to the one licensed file for each of these computers; `url` is the service's.

    Raises:
        BenchError: a file is not offered.
    """
    found = []
    for computer in computers:
        token = post(connection, "/v1/files", question(computer, _DOWNLOAD))["token"]
        found += [f"{url}{file['url']}" for file in jwt.decode(token, options={"verify_signature": False})["files"]]
    if len(found) != len(computers):
        raise BenchError("the file is not offered")
    return found
