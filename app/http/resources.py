"""Verify, key-set, health, readiness and metrics endpoints."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import falcon
import msgspec

from app import metrics
from app.clock import Clock
from app.http import openapi
from app.http.request_parser import ADDRESS_HEADER, RequestParser
from app.http.verdicts import respond
from app.services.verification import Verification
from app.tokens.signer import Signer


@dataclass(frozen=True, slots=True)
class VerifyResource:
    """`POST /v1/verify`."""

    verification: Verification
    parser: RequestParser

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the verdict."""
        verdict = self.verification.verify(self.parser.verify_request(request))
        metrics.verify_seconds.observe(time.perf_counter() - request.context.started)
        respond(request, response, verdict)


class KeySetResource:
    """`GET /.well-known/jwks.json`."""

    def __init__(self, signer: Signer, clock: Clock) -> None:
        self._signer = signer
        self._clock = clock

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the published keys and their endorsements."""
        response.content_type = "application/json"
        response.set_header("Cache-Control", "no-cache")
        response.data = json.dumps(self._signer.key_set(self._clock())).encode()

    on_head = on_get


class OpenApiResource:
    """`GET /v1/openapi.json`."""

    def __init__(self) -> None:
        self._document = msgspec.json.encode(openapi.DOCUMENT)

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the document."""
        response.content_type = "application/json"
        response.set_header("Cache-Control", "no-cache")
        response.data = self._document

    on_head = on_get


class HealthResource:
    """`GET /healthz`: the process answers."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer."""
        response.content_type = "application/json"
        response.data = b'{"status": "ok"}'

    on_head = on_get


class ReadinessResource:
    """`GET /readyz`: whether the service can answer verifications.

    Args:
        check: Raises an `UnavailableError` when it cannot.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer 200, or 503 by an `UnavailableError`."""
        self._check()
        response.content_type = "application/json"
        response.data = b'{"status": "ready"}'

    on_head = on_get


class MetricsResource:
    """`GET /metrics`: only for requests that did not come through the proxy."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer in Prometheus' text format."""
        if request.get_header(ADDRESS_HEADER) is not None:
            raise falcon.HTTPNotFound
        response.content_type = "text/plain; version=0.0.4; charset=utf-8"
        response.data = metrics.render()

    on_head = on_get
