"""The server: plays one scenario over real HTTP, and keeps what the client sent."""

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

from kadun.hostile.forging import unb64
from kadun.hostile.world import Forger, NotAskedError, Reply, Wire, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kadun.hostile.world import Scenario, World

_LARGEST_REQUEST = 64 * 1024
_LONGEST = {"card_id": 64, "hardware": 1024, "function": 64}
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_KNOWN = {*_LONGEST, "nonce", "ip", "client_public_key"}
_PUBLIC_KEY_BYTES = 32
_NOT_FOUND = Reply(404, b'{"type":"about:blank","title":"Not Found","status":404,"code":"NOT_FOUND"}')


class Stage(ThreadingHTTPServer):
    """One scenario, on a port of its own.

    Attributes:
        requests: the well-formed requests to `/v1/verify`, in order.
        complaints: what was wrong with the others.
        not_asked: the client did not ask for what this scenario lies about.
        released: set when it is over, for answers that wait.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, world: World, scenario: Scenario, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.world = world
        self.scenario = scenario
        self.requests: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        self.not_asked = False
        self.released = threading.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def reply_to(self, method: str, path: str, body: bytes) -> Reply:
        """Answer as the scenario says."""
        if path == "/elsewhere/v1/verify" and self.requests:
            return verdict(Forger(self.world, self.requests[-1]).token())
        if path == "/v1/verify":
            return self._verify(method, body)
        return self.scenario.keys(self.world) if path == "/.well-known/jwks.json" else _NOT_FOUND

    def _verify(self, method: str, body: bytes) -> Reply:
        # A redirected POST may come back as a GET; it then speaks of the request before.
        if method == "POST":
            complaint, request = _read(body)
            if complaint:
                self.complaints.append(complaint)
                return _problem(complaint)
            self.requests.append(request)
        if not self.requests:
            return _NOT_FOUND
        earlier = self.requests[0] if len(self.requests) > 1 else None
        try:
            return self.scenario.answer(Forger(self.world, self.requests[-1], earlier))
        except NotAskedError:
            self.not_asked = True
            return _problem("client_public_key is needed for this one.")

    def handle_error(self, *_args: object) -> None:
        """The client hung up, as it may."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stage

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length") or "0"
        size = int(length) if length.isdigit() else 0
        body = self.rfile.read(min(size, _LARGEST_REQUEST + 1))
        self.close_connection = True
        reply = self.server.reply_to(self.command, self.path, body)
        if reply.wire:
            reply.wire(Wire(self._send, self._reset, self.server.released))
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
        """End the connection as a firewall does: with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *_args: object) -> None:
        """Be silent."""


@contextmanager
def playing(world: World, scenario: Scenario, port: int = 0) -> Iterator[Stage]:
    """Serve a scenario until the block ends."""
    with Stage(world, scenario, port) as stage:
        thread = threading.Thread(target=stage.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
        thread.start()
        try:
            yield stage
        finally:
            stage.released.set()
            stage.shutdown()
            thread.join()


def _problem(detail: str) -> Reply:
    problem = {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "code": "INVALID_REQUEST",
        "detail": detail,
    }
    return Reply(400, json.dumps(problem).encode(), {"Content-Type": "application/problem+json"})


def _read(body: bytes) -> tuple[str, dict[str, Any]]:
    """The request, and what the real server would not like about it (PROTOCOL section 3)."""
    try:
        request = json.loads(body.decode("utf-8"))
    except ValueError:
        request = None
    if not isinstance(request, dict):
        return "the body is no JSON object in UTF-8.", {}
    for name, longest in _LONGEST.items():
        value = request.get(name)
        if not isinstance(value, str) or not 1 <= len(value) <= longest:
            return f"{name} must be a string of 1 to {longest} characters.", {}
    if not isinstance(request.get("nonce"), str) or not _NONCE.fullmatch(request["nonce"]):
        return "nonce must be 16 to 64 characters of base64url.", {}
    unknown = sorted(set(request) - _KNOWN)
    if unknown:
        return f"unknown fields: {', '.join(map(repr, unknown))}.", {}
    key = request.get("client_public_key")
    if key is not None and not _is_public_key(key):
        return "client_public_key must be 43 characters of base64url, a raw X25519 public key.", {}
    return "", request


def _is_public_key(key: object) -> bool:
    with contextlib.suppress(ValueError, TypeError):
        return isinstance(key, str) and "=" not in key and len(unb64(key)) == _PUBLIC_KEY_BYTES
    return False
