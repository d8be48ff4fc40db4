"""How many requests to the console, to shops and to self-service run at once in a process."""

import threading

import falcon

from app.http.problems import unavailable

_OF_OPERATORS, _OF_CUSTOMERS = ("/admin", "/v1/shop/"), ("/card", "/v1/self/")
_NOT_COUNTED = ("/admin/login", "/admin/static/")  # log-ins wait for their turn to hash
_PATIENCE_SECONDS = 20.0
_WAITING = 6


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
    """Middleware: of these requests so many run at once, so that connections are left for customers' programs.

    Half of the connections may be in use for operators and shops, a quarter for self-service, which needs no account;
    two at least.
    """

    def __init__(self, connections: int) -> None:
        shares = ((_OF_OPERATORS, connections // 2), (_OF_CUSTOMERS, connections // 4))
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
