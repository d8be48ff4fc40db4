"""The requests that run in native threads, and those that run on the hub (docs/adr/0008)."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, BinaryIO

from app import hub
from app.services.passwords import STRANGERS

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_ON_THE_HUB = ("/v1/verify", "/v1/files", "/v1/execute", "/healthz")
"""Paths whose requests wait for nothing but the hub, and compute little; they ask for threads themselves."""

_PATIENCE_SECONDS = 20.0


class Threads:
    """WSGI middleware: runs a request in a native thread unless it belongs to the few that are made for the hub.

    Args:
        application: What answers.
        is_patient: Whether a request waits its turn on the hub: anybody may send many that are slow.
    """

    def __init__(self, application: Application, is_patient: Callable[[dict[str, Any]], bool]) -> None:
        self._application = application
        self._is_patient = is_patient
        self._patient = hub.Places(STRANGERS, _PATIENCE_SECONDS)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        if environ["PATH_INFO"].startswith(_ON_THE_HUB):
            return self._application(environ, start_response)
        environ["wsgi.input"] = _Body(environ["wsgi.input"])
        in_thread = partial(hub.in_thread, partial(self._application, environ, start_response))
        if not self._is_patient(environ):
            return in_thread()
        with self._patient.taken():
            return in_thread()


class _Body:
    """A request's body for a native thread; its socket belongs to the hub."""

    def __init__(self, body: BinaryIO) -> None:
        self._body = body

    def read(self, *size: int) -> bytes:
        return hub.on_hub(partial(self._body.read, *size))

    def readline(self, *size: int) -> bytes:
        return hub.on_hub(partial(self._body.readline, *size))
