"""The verify, execute and metrics endpoints, and those that answer with a JSON document."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import falcon

from app.domain.texts import Text
from app.http.problems import invalid_request
from app.http.request_parser import ADDRESS_HEADER, RequestParser
from app.http.verdicts import respond
from app.runtime import metrics
from app.services.functions import Execution, InvalidArgumentsError
from app.services.licence.licence import Verification

_MAX_SHOWN = 200


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
class ExecuteResource:
    """`POST /v1/execute` (核心功能执行)."""

    execution: Execution
    parser: RequestParser

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        asked, arguments = self.parser.execute_request(request)
        try:
            verdict = self.execution.execute(asked, arguments)
        except InvalidArgumentsError as error:
            # Both may quote the request, at any length.
            field, message = error.field[:_MAX_SHOWN], error.message[:_MAX_SHOWN]
            detail = Text(f"参数 {field} 不符合要求", f"{field} does not fit")
            if message:
                detail = Text(f"{detail.zh}：{message}", f"{field}: {message}")
            raise invalid_request(detail, field) from error
        respond(request, response, verdict)


@dataclass(frozen=True, slots=True)
class JsonResource:
    """A JSON document, which `read` returns; an `UnavailableError` in its place is answered with 503."""

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
