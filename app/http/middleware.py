"""The log of requests: an ID for each, and a line in the log for each that did not end with 200."""

import logging
import os
import re
import time
from http import HTTPStatus

import falcon

_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_LOGGED_PATH_CHARS = 200
logger = logging.getLogger("app.requests")


class RequestLog:
    """Gives each request an ID, and logs it without secrets: no card, no body, no query string."""

    def __init__(self, *, behind_proxy: bool) -> None:
        self._behind_proxy = behind_proxy

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        # The proxy's ID, so that both logs have the same one.
        given = request.get_header("X-REQUEST-ID") if self._behind_proxy else None
        request.context.request_id = given if given and _ID.fullmatch(given) else os.urandom(16).hex()
        request.context.started = time.perf_counter()
        request.context.outcome = {}

    def process_response(self, request: falcon.Request, response: falcon.Response, *_rest: object) -> None:
        context = request.context
        response.set_header("X-Request-ID", context.request_id)
        status = response.status_code
        # A success is in nginx's log, the usage table and the metrics. A line here would cost a fifth of the request.
        level = logging.DEBUG if status == HTTPStatus.OK else logging.INFO
        if logger.isEnabledFor(level):
            fields = {
                "request_id": context.request_id,
                "method": request.method,
                "path": _loggable(request.path),
                "status": status,
                "milliseconds": round((time.perf_counter() - context.started) * 1000, 2),
                **context.outcome,
            }
            logger.log(level, "request", extra=fields)


def _loggable(path: str) -> str:
    """Return the start of a path, escaped: control characters of a stranger could affect the reader's terminal."""
    start = path[:_LOGGED_PATH_CHARS]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in start)[:_LOGGED_PATH_CHARS]
