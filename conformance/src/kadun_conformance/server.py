"""The server: sends the responses of one case over HTTP, and records what the client requested."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from kadun_conformance.crypto import unb64
from kadun_conformance.forger import ClearKeyRequestedError, Connection, Forger, Reply, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kadun_conformance.case import Case
    from kadun_conformance.forger import Vendor

_LARGEST_REQUEST = 64 * 1024
_LONGEST = {"card_id": 64, "hardware": 1024, "function": 64}
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_VERSION = 32
_KNOWN = {*_LONGEST, "nonce", "ip", "version", "client_public_key"}
_PUBLIC_KEY_BYTES = 32
_PROBLEM = {"Content-Type": "application/problem+json"}
_NOT_FOUND = Reply(404, b'{"type":"about:blank","title":"Not Found","status":404,"code":"NOT_FOUND"}', _PROBLEM)


class CaseServer(ThreadingHTTPServer):
    """One case, on a port of its own.

    Attributes:
        requests: the well-formed requests to `/v1/verify`, in order; `body` is that of the last.
        problems: what was wrong with the other requests.
        clear_key_requested: the client asked for the key in clear, so that the case does not apply.
        closing: set at the end, for responses that wait.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, vendor: Vendor, case: Case, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.vendor = vendor
        self.case = case
        self.requests: list[dict[str, Any]] = []
        self.body = b""
        self.problems: list[str] = []
        self.clear_key_requested = False
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        """The base URL of the server."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def _forger(self) -> Forger:
        earlier = self.requests[0] if len(self.requests) > 1 else None
        return Forger(self.vendor, self.requests[-1] if self.requests else {}, earlier, self.body)

    def reply_to(self, method: str, path: str, body: bytes) -> Reply:
        """Respond as the case says."""
        if path == "/elsewhere/v1/verify" and self.requests:
            return verdict(self._forger.token())
        if path == "/v1/verify":
            return self._verify(method, body)
        if path == "/.well-known/jwks.json":
            return (self.case.key_set or Forger.key_set)(self._forger)
        return _NOT_FOUND

    def _verify(self, method: str, body: bytes) -> Reply:
        # A redirected POST may come back as a GET; it then refers to the request before.
        if method == "POST":
            problem, request = _parse(body)
            if problem:
                self.problems.append(problem)
                return _bad_request(problem)
            self.requests.append(request)
            self.body = body
        if not self.requests:
            return _NOT_FOUND
        try:
            return self.case.answer(self._forger)
        except ClearKeyRequestedError:
            self.clear_key_requested = True
            return _bad_request("this case requires client_public_key.")

    def handle_error(self, *_args: object) -> None:
        """Ignore clients that close the connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CaseServer

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length") or "0"
        size = int(length) if length.isdigit() else 0
        body = self.rfile.read(min(size, _LARGEST_REQUEST + 1))
        self.close_connection = True
        reply = self.server.reply_to(self.command, self.path, body)
        if reply.write:
            reply.write(Connection(self._send, self._reset, self.server.closing))
            return
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    do_GET = do_POST  # noqa: N815 - the standard library's own name

    def _send(self, raw: bytes) -> None:
        self.wfile.write(raw)

    def _reset(self) -> None:
        """Close the connection with RST, as a firewall does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

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


def _bad_request(detail: str) -> Reply:
    problem = {"type": "about:blank", "title": "Bad Request", "status": 400, "code": "INVALID_REQUEST"}
    return Reply(400, json.dumps({**problem, "detail": detail}).encode(), _PROBLEM)


def _parse(body: bytes) -> tuple[str, dict[str, Any]]:
    """Return what the genuine server would refuse about a request (PROTOCOL section 3), and the request."""
    try:
        request = json.loads(body.decode("utf-8"))
    except ValueError:
        request = None
    if not isinstance(request, dict):
        return "the body is not a JSON object in UTF-8.", {}
    for name, longest in _LONGEST.items():
        value = request.get(name)
        if not isinstance(value, str) or not 1 <= len(value) <= longest:
            return f"{name} must be a string of 1 to {longest} characters.", {}
    if not isinstance(request.get("nonce"), str) or not _NONCE.fullmatch(request["nonce"]):
        return "nonce must be 16 to 64 characters of base64url.", {}
    unknown = sorted(set(request) - _KNOWN)
    if unknown:
        return f"unknown fields: {', '.join(map(repr, unknown))}.", {}
    problem = _optional_field_problem(request)
    return problem, {} if problem else request


def _optional_field_problem(request: dict[str, Any]) -> str:
    version, key = request.get("version"), request.get("client_public_key")
    if version is not None and not _is_version(version):
        return f"version must be dotted numbers, at most {_LONGEST_VERSION} characters."
    if key is not None and not _is_public_key(key):
        return "client_public_key must be 43 characters of base64url, a raw X25519 public key."
    return ""


def _is_version(version: object) -> bool:
    return isinstance(version, str) and len(version) <= _LONGEST_VERSION and bool(_VERSION.fullmatch(version))


def _is_public_key(key: object) -> bool:
    with contextlib.suppress(ValueError, TypeError):
        return isinstance(key, str) and "=" not in key and len(unb64(key)) == _PUBLIC_KEY_BYTES
    return False
