"""The HTTP API of the functions service, which the app and `cardctl` use over a Unix socket."""

import logging.config
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec

from app.domain.functions import CallLimits, CallOrigin, may_begin
from app.domain.texts import Text
from app.functions.call import tail
from app.functions.library import Library, NotLoadedError
from app.functions.messages import CallRequest, CallResult, NotFound
from app.functions.settings import FunctionSettings
from app.runtime import logs, unix_server

MAX_REQUEST_BYTES = 512 * 1024
"""More than the app's 64 KiB can become when numbers such as 1e15 are written out."""
_MAX_LOGGED = 1024  # one card's calls must not fill the log
logger = logging.getLogger(__name__)


class BusyError(Exception):
    """All places are taken, or this card, this address or its site has its share already."""


class Api:
    """Answers requests. Threads share it.

    `GET /functions` is answered with a `Listing`; so is `POST /reload`, when the modules are loaded again.
    `POST /call` runs a function: a `CallRequest` is answered with a `CallResult`.
    While nothing is loaded, or no place is free for a caller, the answer is 503 with the reason.
    """

    def __init__(self, library: Library, limits: CallLimits) -> None:
        self._library = library
        self._limits = limits
        self._lock = threading.Lock()
        self._taken: dict[int, CallOrigin] = {}

    def answer(self, request: str, body: bytes) -> tuple[HTTPStatus, bytes]:
        """Return the status and the JSON for a request such as `GET /functions`."""
        routes: dict[str, Callable[[], object]] = {
            "GET /functions": self._library.listing,
            "POST /reload": self._library.reload,
            "POST /call": partial(self._call, body),
        }
        if request not in routes:
            return HTTPStatus.NOT_FOUND, b"{}"
        try:
            return HTTPStatus.OK, msgspec.json.encode(routes[request]())
        except (BusyError, NotLoadedError) as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, msgspec.json.encode({"error": str(error)})
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return HTTPStatus.BAD_REQUEST, msgspec.json.encode({"error": str(error)})

    def _call(self, body: bytes) -> object:
        call = msgspec.json.decode(body, type=CallRequest)
        began = time.monotonic()
        with self._place_of(CallOrigin(call.caller.card_id, call.address)) as place:
            result = self._library.call(call.key, body, place)
        if result is None:
            return CallResult(NotFound(), "")
        outcome, printed = result
        extra: dict[str, Any] = {"function": call.function, "milliseconds": round((time.monotonic() - began) * 1000)}
        if printed:
            extra["printed"] = printed[-_MAX_LOGGED:]
        logger.info("function called", extra=extra)
        return {"outcome": msgspec.Raw(outcome), "printed": tail(printed)}

    @contextmanager
    def _place_of(self, caller: CallOrigin) -> Iterator[int]:
        with self._lock:
            if not may_begin(caller, self._taken.values(), self._limits):
                raise BusyError(Text("名额已满，请稍后重试", "all slots are taken: try again later"))
            place = next(number for number in range(self._limits.places) if number not in self._taken)
            self._taken[place] = caller
        try:
            yield place
        finally:
            with self._lock:
                del self._taken[place]


def serve(settings: FunctionSettings, launcher: socket.socket) -> None:
    """Serve until SIGTERM, then finish the calls under way; SIGINT and SIGQUIT end the process at once."""
    logging.config.dictConfig(logs.configuration(settings.log_level))
    library = Library(settings.folder, settings.limits, launcher)
    threading.Thread(target=library.keep_current, name="functions", daemon=True).start()
    with unix_server.listen(settings.socket, Api(library, settings.calls).answer, MAX_REQUEST_BYTES) as serving:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=serving.shutdown).start())
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        serving.serve_forever()
        logger.info("ending when the calls under way have ended")
