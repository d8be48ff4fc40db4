"""The functions service over HTTP. Only the app and the operator's command line ask it, over a Unix socket."""

import logging
import threading
import time
from typing import Any

import falcon
import msgspec

from app.functions.call import end_of
from app.functions.concurrency import BusyError, ConcurrencyLimiter
from app.functions.library import Library, NotLoadedError
from app.functions.messages import CallRequest, CallResult, NotFound
from app.functions.supervisor import MAX_REQUEST_BYTES

_RETRY_AFTER_SECONDS = 2
_RELOADS_AT_ONCE = 2  # each holds a thread for as long as loading takes
_MAX_LOGGED_BYTES = 1024  # what one card's calls print must not push all else out of the log
logger = logging.getLogger(__name__)


class HealthResource:
    """`GET /healthz`: the process answers."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer."""
        response.media = {"status": "ok"}


class FunctionsResource:
    """`GET /functions`: what is loaded, and what is broken."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer a `Listing`; 503 while nothing is loaded."""
        response.data = msgspec.json.encode(self._library.listing())


class ReloadResource:
    """`POST /reload`: the same, once the modules are loaded anew."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._places = threading.BoundedSemaphore(_RELOADS_AT_ONCE)

    def on_post(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer a `Listing`; 503 when it fails or takes too long, or others are waiting already."""
        if not self._places.acquire(blocking=False):
            raise BusyError
        try:
            response.data = msgspec.json.encode(self._library.reload())
        finally:
            self._places.release()


class CallResource:
    """`POST /call`: run a function."""

    def __init__(self, library: Library, slots: ConcurrencyLimiter) -> None:
        self._library = library
        self._slots = slots

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer a `CallResult`; 400 for what is no `CallRequest`, 503 when all places are taken."""
        body = request.bounded_stream.read(MAX_REQUEST_BYTES + 1)
        if len(body) > MAX_REQUEST_BYTES:
            raise falcon.HTTPContentTooLarge
        try:
            call = msgspec.json.decode(body, type=CallRequest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise falcon.HTTPBadRequest(description=str(error)) from error
        began = time.monotonic()
        with self._slots.slot(call.caller.card_id):
            said = self._library.call(call.function, body)
        if said is None:
            response.data = msgspec.json.encode(CallResult(NotFound(), ""))
            return
        printed = end_of(said.printed.decode("utf-8", "replace"))
        response.data = msgspec.json.encode({"outcome": msgspec.Raw(said.outcome), "printed": printed})
        extra: dict[str, Any] = {"function": call.function, "milliseconds": round((time.monotonic() - began) * 1000)}
        if said.printed:
            extra["printed"] = said.printed[-_MAX_LOGGED_BYTES:].decode("utf-8", "replace")
        logger.info("function called", extra=extra)


def _unavailable(_request: falcon.Request, response: falcon.Response, error: Exception, _params: Any) -> None:  # noqa: ANN401
    response.status = falcon.HTTP_503
    response.set_header("Retry-After", str(_RETRY_AFTER_SECONDS))
    response.media = {"error": str(error)}


def create_app(library: Library, concurrency: int) -> falcon.App[Any, Any]:
    """Build the service.

    Args:
        library: The functions.
        concurrency: How many calls may run at once.
    """
    app = falcon.App()
    app.add_error_handler(BusyError, _unavailable)
    app.add_error_handler(NotLoadedError, _unavailable)
    app.add_route("/healthz", HealthResource())
    app.add_route("/functions", FunctionsResource(library))
    app.add_route("/reload", ReloadResource(library))
    app.add_route("/call", CallResource(library, ConcurrencyLimiter(concurrency)))
    return app
