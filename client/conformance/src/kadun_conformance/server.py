"""The server: sends the responses of one case over HTTP, and records what the client requested."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from kadun_conformance.forger import Forger, problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kadun_conformance.cases import Case
    from kadun_conformance.forger import Reply, Vendor

_LARGEST_REQUEST = 64 * 1024
# A request's fields (docs/protocol.md, "The request"). The genuine server also takes one without client_public_key.
_FIELDS = {
    "card_id": ".{1,64}",
    "hardware": ".{1,1024}",
    "function": ".{1,64}",
    "nonce": "[A-Za-z0-9_-]{16,64}",
    "client_public_key": "[A-Za-z0-9_-]{43}",
}
_OPTIONAL = {"ip": ".{0,64}", "version": r"(?!.{33})[0-9]+(\.[0-9]+)*"}


class CaseServer(ThreadingHTTPServer):
    """One case, on a port of its own."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, vendor: Vendor, case: Case, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.vendor = vendor
        self.case = case
        self.requests: list[dict[str, Any]] = []  # the well-formed ones to `/v1/verify`, in order
        self.body = b""  # of the last
        self.problems: list[str] = []  # of the other requests
        self.closing = threading.Event()  # set at the end, for responses that wait
        self.url = f"http://127.0.0.1:{self.server_port}"

    def reply_to(self, method: str, path: str, body: bytes) -> Reply:
        """Return the case's response."""
        if path == "/v1/verify" and method == "POST":  # a redirected one may come back as a GET, without a body
            wrong, request = _parse(body)
            if wrong:
                self.problems.append(wrong)
                return problem(400, "INVALID_REQUEST", wrong)
            self.requests.append(request)
            self.body = body
        forger = Forger(self.vendor, self.requests[-1] if self.requests else {}, self.body)
        if path == "/.well-known/jwks.json":
            return (self.case.key_set or Forger.key_set)(forger)
        if path == "/v1/verify" and self.requests:
            return self.case.answer(forger)
        if path == "/elsewhere/v1/verify" and self.requests:
            return forger.accept()
        return problem(404, "NOT_FOUND")

    def handle_error(self, *_args: object) -> None:
        """Ignore clients that close the connection."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request; a case may write to its connection what an HTTP library does not."""

    protocol_version = "HTTP/1.1"
    server: CaseServer

    def do_POST(self) -> None:
        """Send the case's reply."""
        length = self.headers.get("Content-Length") or "0"
        body = self.rfile.read(min(int(length) if length.isdigit() else 0, _LARGEST_REQUEST + 1))
        self.close_connection = True
        reply = self.server.reply_to(self.command, self.path, body)
        if reply.write:
            reply.write(self.wfile, self.server.closing)
            return
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    do_GET = do_POST  # noqa: N815 - the standard library's own name

    def log_message(self, *_args: object) -> None:
        """Log nothing."""


@contextmanager
def serving(vendor: Vendor, case: Case, port: int = 0) -> Iterator[CaseServer]:
    """Serve a case until the block ends."""
    with CaseServer(vendor, case, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


def _parse(body: bytes) -> tuple[str, dict[str, Any]]:
    try:
        request = json.loads(body.decode("utf-8"))
    except ValueError:
        request = None
    if not isinstance(request, dict):
        return "the body is not a JSON object in UTF-8", {}
    given = {name: value for name, value in request.items() if value is not None}
    for name in sorted({*_FIELDS, *given}):
        form, value = {**_FIELDS, **_OPTIONAL}.get(name), given.get(name)
        if form is None:
            return f"{name!r} is no field of a request", {}
        if not isinstance(value, str) or not re.fullmatch(form, value, re.DOTALL):
            return f"{name} must be a string that matches {form}", {}
    return "", request
