"""The HTTP API of the functions service, which the app and `cardctl` use over a Unix socket."""

import logging
import threading
import time
from typing import Any

import falcon
import msgspec

from app.domain.calls import Caller, CallLimits
from app.functions.call import tail
from app.functions.concurrency import BusyError, ConcurrencyLimiter
from app.functions.library import Library, NotLoadedError
from app.functions.messages import CallRequest, CallResult, NotFound
from app.functions.supervisor import MAX_REQUEST_BYTES

_RETRY_AFTER_SECONDS = 2
_MAX_RELOADS = 2  # at once: each holds a thread while the modules load
_MAX_LOGGED_BYTES = 1024  # one card's calls must not fill the log
logger = logging.getLogger(__name__)


class HealthResource:
    """`GET /healthz`."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer."""
        response.media = {"status": "ok"}


class FunctionsResource:
    """`GET /functions`: the loaded functions and the broken modules."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a `Listing`; 503 while nothing is loaded."""
        response.data = msgspec.json.encode(self._library.listing())


class ReloadResource:
    """`POST /reload`: load the modules again."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._reloads = threading.BoundedSemaphore(_MAX_RELOADS)

    def on_post(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a `Listing`; 503 if loading fails or takes too long, or too many reloads are waiting."""
        if not self._reloads.acquire(blocking=False):
            raise BusyError
        try:
            response.data = msgspec.json.encode(self._library.reload())
        finally:
            self._reloads.release()


class CallResource:
    """`POST /call`: run a function."""

    def __init__(self, library: Library, slots: ConcurrencyLimiter) -> None:
        self._library = library
        self._slots = slots

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a `CallResult`; 400 for an invalid `CallRequest`, 503 when no place is free for this caller."""
        body = request.bounded_stream.read(MAX_REQUEST_BYTES + 1)
        if len(body) > MAX_REQUEST_BYTES:
            raise falcon.HTTPContentTooLarge
        try:
            call = msgspec.json.decode(body, type=CallRequest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise falcon.HTTPBadRequest(description=str(error)) from error
        began = time.monotonic()
        with self._slots.slot(Caller(call.caller.card_id, call.address)) as slot:
            result = self._library.call(call.function, body, slot)
        if result is None:
            response.data = msgspec.json.encode(CallResult(NotFound(), ""))
            return
        printed = tail(result.printed.decode("utf-8", "replace"))
        response.data = msgspec.json.encode({"outcome": msgspec.Raw(result.outcome), "printed": printed})
        extra: dict[str, Any] = {"function": call.function, "milliseconds": round((time.monotonic() - began) * 1000)}
        if result.printed:
            extra["printed"] = result.printed[-_MAX_LOGGED_BYTES:].decode("utf-8", "replace")
        logger.info("function called", extra=extra)


def _unavailable(_request: falcon.Request, response: falcon.Response, error: Exception, _params: Any) -> None:  # noqa: ANN401
    response.status = falcon.HTTP_503
    response.set_header("Retry-After", str(_RETRY_AFTER_SECONDS))
    response.media = {"error": str(error)}


def create_app(library: Library, limits: CallLimits) -> falcon.App[Any, Any]:
    """Build the service.

    Args:
        library: Serves the calls.
        limits: How many calls may run at once.
    """
    app = falcon.App()
    app.add_error_handler(BusyError, _unavailable)
    app.add_error_handler(NotLoadedError, _unavailable)
    app.add_route("/healthz", HealthResource())
    app.add_route("/functions", FunctionsResource(library))
    app.add_route("/reload", ReloadResource(library))
    app.add_route("/call", CallResource(library, ConcurrencyLimiter(limits)))
    return app
