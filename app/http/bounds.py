"""How many requests to the console, to shops and to self-service run at once in a process."""

import threading
from typing import Any

import falcon

from app.http.problems import unavailable

_PATHS = ("/admin", "/v1/shop/", "/card", "/v1/self/")
_NOT_COUNTED = ("/admin/login", "/admin/static/")  # log-ins wait for their turn to hash
_PATIENCE_SECONDS = 20.0
_WAITING = 6


class Bounds:
    """Middleware: of these requests so many run at once, so that connections are left for customers' programs."""

    def __init__(self, at_once: int) -> None:
        self._places = threading.BoundedSemaphore(at_once)
        self._waiting = 0

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Wait for a place."""
        request.context.is_counted = False
        if request.path.startswith(_PATHS) and not request.path.startswith(_NOT_COUNTED):
            if not self._acquire():
                raise unavailable()
            request.context.is_counted = True

    def _acquire(self) -> bool:
        if self._places.acquire(blocking=False):
            return True
        if self._waiting >= _WAITING:
            return False
        self._waiting += 1
        try:
            return self._places.acquire(timeout=_PATIENCE_SECONDS)
        finally:
            self._waiting -= 1

    def process_response(
        self,
        request: falcon.Request,
        _response: falcon.Response,
        _resource: Any,  # noqa: ANN401  # Falcon's signature
        _succeeded: bool,  # noqa: FBT001  # Falcon's signature
    ) -> None:
        """Give the place back."""
        if request.context.is_counted:
            self._places.release()
