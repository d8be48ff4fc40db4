"""The app's side of the functions service: HTTP over its Unix socket."""

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from app.domain.errors import UnavailableError
from app.domain.texts import Text
from app.functions.decorator import Caller
from app.functions.messages import (
    BrokenModule,
    CallResult,
    Failed,
    FunctionInfo,
    Invalid,
    Listing,
    NotFound,
    Outcome,
    Returned,
    TimedOut,
)

__all__ = [
    "BrokenModule",
    "CallResult",
    "Caller",
    "Failed",
    "FunctionInfo",
    "FunctionsBusyError",
    "FunctionsClient",
    "FunctionsUnavailableError",
    "Invalid",
    "Listing",
    "NotFound",
    "Outcome",
    "Returned",
    "TimedOut",
]

RELOAD_SECONDS = 45
MARGIN_SECONDS = 10
"""How much longer than the function's own time the service may take to end it and say so."""
MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""More than any result or listing that the service sends."""

Answer = TypeVar("Answer")


class FunctionsUnavailableError(UnavailableError):
    """The functions service is away, or answers what it never should. The message says which, in technical terms."""


class FunctionsBusyError(FunctionsUnavailableError):
    """The service is there, and has no place for another call, or nothing loaded. The message is its own."""


class FunctionsClient:
    """Calls and lists the vendor's functions; safe to share between threads.

    Args:
        socket_path: The service's socket; any length.
        seconds: How long a function may run: the service's KADUN_FUNCTION_SECONDS.
    """

    def __init__(self, socket_path: Path, seconds: int) -> None:
        self._socket_path = socket_path
        self._seconds = seconds

    def call(self, function: str, arguments: dict[str, Any], caller: Caller) -> Outcome:
        """Call a function, as `run` does, where what it prints is no matter."""
        return self.run(function, arguments, caller).outcome

    def run(self, function: str, arguments: dict[str, Any], caller: Caller) -> CallResult:
        """Call a function, and return what came of it, and what it printed.

        Raises:
            FunctionsBusyError: all places are taken, or nothing is loaded.
            FunctionsUnavailableError: the service is away or at fault.
        """
        expires_at = caller.expires_at
        question = {
            "function": function,
            "arguments": arguments,
            "caller": {
                "card_id": caller.card_id,
                "client_id": caller.client_id,
                "expires_at": None if expires_at is None else expires_at.isoformat(),
            },
        }
        return self._ask("POST", "/call", CallResult, self._seconds + MARGIN_SECONDS, question)

    def list(self) -> Listing:
        """Return what is loaded, and what is broken.

        Raises:
            FunctionsUnavailableError: the service is away or at fault.
        """
        return self._ask("GET", "/functions", Listing, MARGIN_SECONDS)

    def reload(self) -> Listing:
        """Load the modules anew, and return what is loaded then; calls under way end on the old ones.

        Raises:
            FunctionsUnavailableError: the service is away or at fault, or the modules cannot be loaded in time.
        """
        return self._ask("POST", "/reload", Listing, RELOAD_SECONDS)

    def _ask(
        self, method: str, path: str, kind: type[Answer], seconds: float, question: dict[str, Any] | None = None
    ) -> Answer:
        body = None if question is None else json.dumps(question, ensure_ascii=False, allow_nan=False).encode()
        connection = _SocketConnection(self._socket_path, seconds)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            content = answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise FunctionsUnavailableError(f"no answer: {error!r}") from error
        finally:
            connection.close()
        if answer.status == http.client.SERVICE_UNAVAILABLE:
            raise FunctionsBusyError(_reason(content))
        if answer.status != http.client.OK or len(content) > MAX_ANSWER_BYTES:
            raise FunctionsUnavailableError(f"an answer of status {answer.status} and {len(content)} bytes")
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FunctionsUnavailableError(f"a malformed answer: {error}") from error


class _Excuse(msgspec.Struct):
    error: str


def _reason(content: bytes) -> str:
    try:
        return msgspec.json.decode(content, type=_Excuse).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return str(Text("服务繁忙", "busy"))


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        # An address holds 107 bytes, a path may have more: its folder is named by a descriptor instead.
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)
