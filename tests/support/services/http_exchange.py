"""Plain HTTP requests and responses, and free ports."""

import atexit
import contextlib
import http.client
import json
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Response:
    """An HTTP response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def require_problem(self, status: int, code: str) -> None:
        """Assert that this is a problem document with this status and code, in both languages."""
        assert self.status == status, self
        assert self.headers["content-type"] == "application/problem+json"
        problem = self.json()
        assert {"type": "about:blank", "status": status, "code": code}.items() <= problem.items()
        assert re.search(r"[\u4e00-\u9fff].* / [A-Z].*\.", problem["detail"])
        assert problem["title"]
        assert re.fullmatch(r"[0-9a-f]{32}", problem["request_id"])

    def require_page(self, status: int, title: str) -> None:
        """Assert that this is nginx's page for the console with this status and title, in both languages."""
        assert self.status == status, self
        assert self.headers["content-type"] == "text/html; charset=utf-8"
        page = self.body.decode()
        assert f"<h1>{title}</h1>" in page
        assert re.search(r"<p>[\u4e00-\u9fff].* / [A-Z].*\.</p>", page)
        assert re.search(r"Request <code>[0-9a-f]{32}</code>", page)


def claim(name: str) -> bool:
    """Reserve a name, of a port for example, until this process of the tests ends; return False if it is taken."""
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind(f"\0kadun-tests-{name}")  # Linux's abstract names: no file, and gone with the process
    except OSError:
        holder.close()
        return False
    atexit.register(holder.close)
    return True


def quiet_port() -> int:
    """A TCP port that nothing listens on, and that no outgoing connection takes: below the kernel's range for those.

    It is reserved for this process of the tests until that ends.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with (
            contextlib.suppress(OSError),
            socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True),
        ):
            if claim(f"port-{port}"):
                return port


def read_response(connection: socket.socket) -> Response:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return _answer(response)


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
    *,
    keep: bool = False,
) -> Response:
    """Send a request and read the response; close the connection afterwards, unless `keep` says otherwise."""
    try:
        connection.request(method, path, body, dict(headers))
        return _answer(connection.getresponse())
    finally:
        if not keep:
            connection.close()


def _answer(response: http.client.HTTPResponse) -> Response:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Response(response.status, headers, response.read())
