"""What is no verdict: application/problem+json (RFC 9457), one constructor for each kind."""

import json
import logging
from enum import StrEnum
from typing import Any

import falcon

from app import metrics
from app.domain.errors import UnavailableError
from app.domain.texts import Text
from app.http.languages import in_language_of

RETRY_AFTER_SECONDS = 2
logger = logging.getLogger(__name__)


class ProblemCode(StrEnum):
    """The `code` of a problem."""

    INVALID_REQUEST = "INVALID_REQUEST"
    LINK_REFUSED = "LINK_REFUSED"
    UNAUTHORIZED = "UNAUTHORIZED"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    CARD_NOT_FOUND = "CARD_NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    CONFLICT = "CONFLICT"
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT"
    TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class Problem(Exception):  # noqa: N818  # RFC 9457's word
    """A problem to answer with. `field` names the field of the request that is wrong."""

    def __init__(
        self,
        status: str,
        code: ProblemCode,
        detail: Text,
        *,
        field: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail.en)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.headers = headers or {}


def invalid_request(detail: Text, field: str | None = None) -> Problem:
    """The request's form is wrong."""
    return Problem(falcon.HTTP_400, ProblemCode.INVALID_REQUEST, detail, field=field)


def body_too_large(limit_bytes: int) -> Problem:
    """The body is larger than any honest request."""
    kib = limit_bytes // 1024
    detail = Text(f"请求体不得超过 {kib} KiB。", f"The body must be at most {kib} KiB.")
    return Problem(falcon.HTTP_413, ProblemCode.BODY_TOO_LARGE, detail)


def unsupported_media_type() -> Problem:
    """The body is not declared as JSON."""
    detail = Text(
        "请求的 Content-Type 必须是 application/json（UTF-8）。",
        "Content-Type must be application/json, in UTF-8.",
    )
    return Problem(falcon.HTTP_415, ProblemCode.UNSUPPORTED_MEDIA_TYPE, detail)


def unavailable() -> Problem:
    """The database is away, others were in the way there, or the installation is at fault."""
    detail = Text("服务暂时不可用，请稍后再试。", "The service is unavailable for the moment: please try again.")
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return Problem(falcon.HTTP_503, ProblemCode.UNAVAILABLE, detail, headers=headers)


def unauthorized(detail: Text, challenge: str) -> Problem:
    """Whoever asks has not shown who that is; `challenge` says how to (RFC 9110, section 11.6.1)."""
    return Problem(falcon.HTTP_401, ProblemCode.UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})


def forbidden(detail: Text, headers: dict[str, str] | None = None) -> Problem:
    """Whoever asks may not."""
    return Problem(falcon.HTTP_403, ProblemCode.FORBIDDEN, detail, headers=headers)


def not_found(detail: Text) -> Problem:
    """Whoever may know what there is asks for what is not there."""
    return Problem(falcon.HTTP_404, ProblemCode.NOT_FOUND, detail)


def card_not_found(detail: Text, field: str) -> Problem:
    """Whoever may know every card asks for one that is not there."""
    return Problem(falcon.HTTP_404, ProblemCode.CARD_NOT_FOUND, detail, field=field)


def conflict(detail: Text, field: str | None = None) -> Problem:
    """As things are, what was asked cannot be done."""
    return Problem(falcon.HTTP_409, ProblemCode.CONFLICT, detail, field=field)


def idempotency_conflict(field: str) -> Problem:
    """The request's key was used for another one."""
    detail = Text(
        f"这个 {field} 已用于另一个请求；新的请求请换一个新的。",
        f"This {field} was used for another request: a new request takes a new one.",
    )
    return Problem(falcon.HTTP_422, ProblemCode.IDEMPOTENCY_CONFLICT, detail, field=field)


def too_many_requests(retry_after_seconds: int) -> Problem:
    """Whoever asks has failed too often."""
    detail = Text("失败次数过多，请稍后再试。", "Too many failures: please try again later.")
    headers = {"Retry-After": str(retry_after_seconds)}
    return Problem(falcon.HTTP_429, ProblemCode.TOO_MANY_REQUESTS, detail, headers=headers)


def from_error(request: falcon.Request, error: Exception) -> Problem:
    """Return what an error is to whoever asked; what nobody foresaw is logged."""
    match error:
        case Problem():
            return error
        case falcon.HTTPNotFound():
            return not_found(Text("没有这个地址。", "There is nothing here."))
        case falcon.HTTPMethodNotAllowed():
            detail = Text("此地址不支持该请求方法。", "This resource does not support the method.")
            headers = dict(error.headers or {})
            return Problem(falcon.HTTP_405, ProblemCode.METHOD_NOT_ALLOWED, detail, headers=headers)
        case falcon.HTTPError():
            return invalid_request(Text("请求格式有误。", "The request is malformed."))
        case UnavailableError():
            return unavailable()
        case _:
            logger.error("unhandled error", exc_info=error, extra={"request_id": request.context.request_id})
            detail = Text("服务器内部错误，已记录。", "An internal error occurred and was logged.")
            return Problem(falcon.HTTP_500, ProblemCode.INTERNAL_ERROR, detail)


def respond(request: falcon.Request, response: falcon.Response, problem: Problem) -> None:
    """Make `problem` the answer."""
    metrics.problems.labels(problem.code).inc()
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": problem.status.partition(" ")[2],
        "status": int(problem.status[:3]),
        "code": problem.code,
        "detail": in_language_of(request, problem.detail),
        "request_id": request.context.request_id,
    }
    if problem.field is not None:
        document["field"] = problem.field
    response.status = problem.status
    response.content_type = "application/problem+json"
    response.set_headers({"Cache-Control": "no-store", **problem.headers})
    response.data = json.dumps(document, ensure_ascii=False).encode()


def install(app: falcon.App[Any, Any]) -> None:
    """Answer every error of `app` with a problem."""

    def on_error(request: falcon.Request, response: falcon.Response, error: Exception, _params: Any) -> None:  # noqa: ANN401
        respond(request, response, from_error(request, error))

    # Falcon has a handler of its own for HTTPError, which would come first.
    app.add_error_handler(Exception, on_error)
    app.add_error_handler(falcon.HTTPError, on_error)
