"""What every request passes: the log of requests, bounds on how many run at once, and whether self-service is on."""

import logging
import os
import re
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus

import falcon

from app.http.problems import unavailable
from app.services.self_service import SelfService

_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_LOGGED_PATH_CHARS = 200
_OF_OPERATORS, _OF_SELF_SERVICE = ("/admin", "/v1/shop/"), ("/card", "/v1/self/")
_NOT_COUNTED = ("/admin/login", "/admin/static/")  # log-ins wait for their turn to hash
_PATIENCE_SECONDS = 20.0
_WAITING = 6
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


class _Places:
    def __init__(self, number: int) -> None:
        self._free = threading.BoundedSemaphore(number)
        self._waiting = 0
        self.release = self._free.release

    def acquire(self) -> bool:
        if self._free.acquire(blocking=False):
            return True
        if self._waiting >= _WAITING:
            return False
        self._waiting += 1
        try:
            return self._free.acquire(timeout=_PATIENCE_SECONDS)
        finally:
            self._waiting -= 1


class Bounds:
    """Leaves connections to customers' programs: half are for operators and shops, a quarter for self-service."""

    def __init__(self, connections: int) -> None:
        shares = ((_OF_OPERATORS, connections // 2), (_OF_SELF_SERVICE, connections // 4))
        self._places = [(paths, _Places(max(2, share))) for paths, share in shares]

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        request.context.place = None
        for paths, places in self._places:
            if request.path.startswith(paths) and not request.path.startswith(_NOT_COUNTED):
                if not places.acquire():
                    raise unavailable()
                request.context.place = places

    def process_response(self, request: falcon.Request, _response: falcon.Response, *_rest: object) -> None:
        if request.context.place is not None:
            request.context.place.release()


@dataclass(frozen=True, slots=True)
class OffMeansNotFound:
    """Middleware: where self-service is off its routes do not exist, whatever the method."""

    service: SelfService

    def process_resource(self, request: falcon.Request, *_rest: object) -> None:
        if request.path.startswith(_OF_SELF_SERVICE) and not self.service.is_on():
            raise falcon.HTTPNotFound
