"""The client of the functions service: HTTP over its Unix socket."""

import http.client
import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from app.domain.errors import UnavailableError
from app.domain.texts import Text
from app.functions.decorator import Caller
from app.functions.messages import CallResult, Listing
from app.runtime.unix_http import ask

RELOAD_SECONDS = 45
MARGIN_SECONDS = 10
"""How much longer than the function's own time the service may take to end it and answer."""
MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""More than any result or listing that the service sends."""
_INVALID = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Answer = TypeVar("Answer")


class FunctionsUnavailableError(UnavailableError):
    """The functions service is away, or its answer is invalid. The message says which, in technical terms."""


class FunctionsBusyError(FunctionsUnavailableError):
    """The service answers that it has no place for another call, or that nothing is loaded. The message is its own."""


class FunctionsClient:
    """Calls and lists the vendor's functions. Threads may share it.

    Its methods raise `FunctionsBusyError` where no place is free for the caller or nothing is loaded, and
    `FunctionsUnavailableError` where the service is away, takes too long or gives an invalid answer.
    A function may run for so many seconds, the service's KADUN_FUNCTION_SECONDS.
    """

    def __init__(self, socket_path: Path, seconds: int) -> None:
        self._socket_path = socket_path
        self._seconds = seconds

    def call(self, function: str, arguments: dict[str, Any], caller: Caller, address: str | None = None) -> CallResult:
        """Call a function; `address` is what counts as the client's (`network_of`), None for an operator: no limit."""
        request: dict[str, Any] = {"function": function, "arguments": arguments, "caller": msgspec.to_builtins(caller)}
        if address is not None:
            request["address"] = address
        body = json.dumps(request, ensure_ascii=False, allow_nan=False).encode()
        return self._ask("POST /call", CallResult, self._seconds + MARGIN_SECONDS, body)

    def list(self) -> Listing:
        """Return the functions that are loaded, and the modules that are broken."""
        return self._ask("GET /functions", Listing, MARGIN_SECONDS)

    def reload(self) -> Listing:
        """Load all modules again, and return the new listing; calls in progress finish on the old modules."""
        return self._ask("POST /reload", Listing, RELOAD_SECONDS)

    def _ask(self, request: str, answer_type: type[Answer], seconds: float, body: bytes | None = None) -> Answer:
        try:
            status, content = ask(self._socket_path, request, body, seconds=seconds, max_bytes=MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise FunctionsUnavailableError(f"no answer: {error!r}") from error
        if status == http.client.SERVICE_UNAVAILABLE:
            raise FunctionsBusyError(_reason(content))
        if status != http.client.OK or len(content) > MAX_ANSWER_BYTES:
            raise FunctionsUnavailableError(f"an answer of status {status} and {len(content)} bytes")
        try:
            return msgspec.json.decode(content, type=answer_type)
        except _INVALID as error:
            raise FunctionsUnavailableError(f"a malformed answer: {error}") from error


def _reason(content: bytes) -> str:
    try:
        return msgspec.json.decode(content, type=dict[str, str])["error"]
    except (*_INVALID, KeyError):
        return str(Text("服务繁忙", "busy"))
