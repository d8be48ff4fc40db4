"""The verify and metrics endpoints, and those that answer with a JSON document."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import falcon

from app import metrics
from app.http.request_parser import ADDRESS_HEADER, RequestParser
from app.http.verdicts import respond
from app.services.verification import Verification


@dataclass(frozen=True, slots=True)
class VerifyResource:
    """`POST /v1/verify`."""

    verification: Verification
    parser: RequestParser

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        verdict = self.verification.verify(self.parser.verify_request(request))
        metrics.verify_seconds.observe(time.perf_counter() - request.context.started)
        respond(request, response, verdict)


@dataclass(frozen=True, slots=True)
class JsonResource:
    """A JSON document to read: key set, OpenAPI document, health, readiness.

    `read` returns the document, or raises an `UnavailableError`, which is answered with 503.
    """

    read: Callable[[], bytes]
    cache_control: str | None = None

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.data = self.read()
        response.content_type = "application/json"
        if self.cache_control is not None:
            response.set_header("Cache-Control", self.cache_control)

    on_head = on_get


class MetricsResource:
    """`GET /metrics`: only for requests that did not come through the proxy."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        if request.get_header(ADDRESS_HEADER) is not None:
            raise falcon.HTTPNotFound
        response.content_type = "text/plain; version=0.0.4; charset=utf-8"
        response.data = metrics.render()

    on_head = on_get
