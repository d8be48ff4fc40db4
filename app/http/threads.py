"""The requests that run in native threads, and those that run on the hub (docs/adr/0008)."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, BinaryIO

from app import hub

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_ON_THE_HUB = ("/v1/verify", "/v1/files", "/v1/execute", "/healthz")
"""Paths whose requests wait for nothing but the hub, and compute little; they ask for threads themselves."""


class Threads:
    """WSGI middleware: runs a request in a native thread unless it belongs to the few that are made for the hub."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        if environ["PATH_INFO"].startswith(_ON_THE_HUB):
            return self._application(environ, start_response)
        environ["wsgi.input"] = _Body(environ["wsgi.input"])
        return hub.in_thread(partial(self._application, environ, start_response))


class _Body:
    """A request's body for a native thread; its socket belongs to the hub."""

    def __init__(self, body: BinaryIO) -> None:
        self._body = body

    def read(self, *size: int) -> bytes:
        return hub.on_hub(partial(self._body.read, *size))

    def readline(self, *size: int) -> bytes:
        return hub.on_hub(partial(self._body.readline, *size))
