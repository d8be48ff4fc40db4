"""Answers that are not verdicts: application/problem+json (RFC 9457), one constructor for each kind."""

import dataclasses
import logging
import os
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Literal, Self

import falcon
import msgspec
from gunicorn.http.errors import NoMoreData, ParseException
from msgspec import UNSET, Meta, UnsetType

from app.domain.codes import Code
from app.domain.errors import UnavailableError
from app.domain.self_service import RenewReason
from app.domain.texts import LaterError, Text
from app.http.customer_messages import MESSAGES, in_language_of
from app.runtime import metrics
from app.services.licence.vendor_rules import UnknownProgramError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2
logger = logging.getLogger(__name__)


class ProblemCode(StrEnum):
    """The `code` of a problem."""

    status: str

    INVALID_REQUEST = "INVALID_REQUEST", falcon.HTTP_400
    LINK_REFUSED = "LINK_REFUSED", falcon.HTTP_403
    UNAUTHORIZED = "UNAUTHORIZED", falcon.HTTP_401
    FORBIDDEN = "FORBIDDEN", falcon.HTTP_403
    CEILING_EXCEEDED = "CEILING_EXCEEDED", falcon.HTTP_403
    NOT_FOUND = "NOT_FOUND", falcon.HTTP_404
    CARD_NOT_FOUND = "CARD_NOT_FOUND", falcon.HTTP_404
    CLIENT_BLOCKED = "CLIENT_BLOCKED", falcon.HTTP_403
    UNBIND_NOT_ALLOWED = "UNBIND_NOT_ALLOWED", falcon.HTTP_403
    RENEW_NOT_ALLOWED = "RENEW_NOT_ALLOWED", falcon.HTTP_403
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED", falcon.HTTP_405
    BODY_TOO_LARGE = "BODY_TOO_LARGE", falcon.HTTP_413
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE", falcon.HTTP_415
    CONFLICT = "CONFLICT", falcon.HTTP_409
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT", falcon.HTTP_422
    TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS", falcon.HTTP_429
    UNAVAILABLE = "UNAVAILABLE", falcon.HTTP_503
    INTERNAL_ERROR = "INTERNAL_ERROR", falcon.HTTP_500

    def __new__(cls, code: str, status: str) -> Self:
        member = str.__new__(cls, code)
        member._value_, member.status = code, status
        return member


class ProblemBody(msgspec.Struct):
    """A problem (RFC 9457)."""

    type: Literal["about:blank"]
    title: str
    status: int
    code: ProblemCode
    detail: Annotated[str, Meta(description="For people: Chinese, or English where Accept-Language prefers it.")]
    request_id: str
    field: Annotated[str | UnsetType, Meta(description="The part of the request that is wrong, if it is one.")] = UNSET
    reason: Annotated[RenewReason | UnsetType, Meta(description="Why a card is not renewed.")] = UNSET
    next_unbind_at: Annotated[
        str | UnsetType | None, Meta(description="Of UNBIND_NOT_ALLOWED: null where waiting is of no use.")
    ] = UNSET


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818  # RFC 9457's word
    """A problem to answer with. `status` replaces the code's; `more` are further members of the answer."""

    code: ProblemCode
    detail: Text
    field: str | None = None
    _: KW_ONLY
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    status: str = ""
    more: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.status = self.status or self.code.status


invalid_request = partial(Problem, ProblemCode.INVALID_REQUEST)
"""The request's form is wrong."""
forbidden = partial(Problem, ProblemCode.FORBIDDEN)
"""The client is authenticated, and lacks the permission."""
not_found = partial(Problem, ProblemCode.NOT_FOUND)
"""The resource does not exist."""
card_not_found = partial(Problem, ProblemCode.CARD_NOT_FOUND)
"""A card that a shop or a customer names does not exist."""
conflict = partial(Problem, ProblemCode.CONFLICT)
"""The present state of a resource does not allow the change."""


def malformed() -> Problem:
    """What was sent is no request."""
    return invalid_request(Text("请求格式有误。", "The request is malformed."))


def body_too_large(limit_bytes: int) -> Problem:
    kib = limit_bytes // 1024
    detail = Text(f"请求体不得超过 {kib} KiB。", f"The body must be at most {kib} KiB.")
    return Problem(ProblemCode.BODY_TOO_LARGE, detail)


def unsupported_media_type() -> Problem:
    detail = Text(
        "请求的 Content-Type 必须是 application/json（UTF-8）。", "Content-Type must be application/json, in UTF-8."
    )
    return Problem(ProblemCode.UNSUPPORTED_MEDIA_TYPE, detail)


def unavailable() -> Problem:
    """The database is away, the service is busy, or the installation is at fault."""
    detail = Text("服务暂时不可用，请稍后再试。", "The service is unavailable for the moment: please try again.")
    return Problem(ProblemCode.UNAVAILABLE, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def unauthorized(detail: Text, challenge: str) -> Problem:
    """The client has not authenticated; `challenge` says how to (RFC 9110, section 11.6.1)."""
    return Problem(ProblemCode.UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})


def client_blocked() -> Problem:
    return Problem(ProblemCode.CLIENT_BLOCKED, as_sentence(MESSAGES[Code.CLIENT_BLOCKED]))


_TOO_MANY_FAILURES = Text("失败次数过多，请稍后再试。", "Too many failures: please try again later.")


def too_many_requests(retry_after_seconds: int, detail: Text = _TOO_MANY_FAILURES) -> Problem:
    """The client has failed to authenticate too often, or asks too often."""
    return Problem(ProblemCode.TOO_MANY_REQUESTS, detail, headers={"Retry-After": str(retry_after_seconds)})


def as_sentence(text: Text) -> Text:
    """Return a text with a capital letter and a full stop."""
    return Text(f"{text.zh}。", f"{text.en[0].upper()}{text.en[1:]}.")


def from_error(request: falcon.Request, error: Exception) -> Problem:  # noqa: PLR0911  # one a kind
    """Return the problem to answer an error with, and log errors that nothing foresees."""
    match error:
        case Problem():
            return error
        case falcon.HTTPNotFound():
            return not_found(Text("没有这个地址。", "There is nothing here."))
        case falcon.HTTPMethodNotAllowed():
            detail = Text("此地址不支持该请求方法。", "This resource does not support the method.")
            return Problem(ProblemCode.METHOD_NOT_ALLOWED, detail, headers=dict(error.headers or {}))
        # Of gunicorn's: a body in chunks that is malformed or cut off. Or the client left while its body was read.
        case falcon.HTTPError() | ParseException() | NoMoreData() | ConnectionError():
            return malformed()
        case UnavailableError():
            return unavailable()
        case UnknownProgramError():
            return invalid_request(as_sentence(error.text), "program")
        case LaterError():
            return too_many_requests(error.retry_after, as_sentence(error.text))
        case _:
            logger.error("unhandled error", exc_info=error, extra={"request_id": request.context.request_id})
            detail = Text("服务器内部错误，已记录。", "An internal error occurred and was logged.")
            return Problem(ProblemCode.INTERNAL_ERROR, detail)


def respond(request: falcon.Request, response: falcon.Response, problem: Problem) -> None:
    metrics.problems.labels(problem.code).inc()
    response.status = problem.status
    response.content_type = MEDIA_TYPE
    response.set_headers({"Cache-Control": "no-store", **problem.headers})
    response.data = body_of(problem, in_language_of(request, problem.detail), request.context.request_id)


def body_of(problem: Problem, detail: str, request_id: str) -> bytes:
    body = ProblemBody(
        type="about:blank",
        title=problem.status.partition(" ")[2],
        status=int(problem.status[:3]),
        code=problem.code,
        detail=detail,
        request_id=request_id,
        field=UNSET if problem.field is None else problem.field,
        **problem.more,
    )
    return msgspec.json.encode(body)


def answer_to_unreadable() -> bytes:
    """Return the whole HTTP response to what cannot be read as a request: no application sees that."""
    problem = malformed()
    metrics.problems.labels(problem.code).inc()
    request_id = os.urandom(16).hex()
    body = body_of(problem, str(problem.detail), request_id)  # in both languages
    head = (
        f"HTTP/1.1 {problem.status}",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        f"X-Request-ID: {request_id}",
        "Cache-Control: no-store",
        "Connection: close",
        "\r\n",
    )
    return "\r\n".join(head).encode() + body


def install(app: falcon.App[Any, Any]) -> None:
    """Answer every error of `app` with a problem."""

    def on_error(request: falcon.Request, response: falcon.Response, error: Exception, _params: Any) -> None:  # noqa: ANN401
        respond(request, response, from_error(request, error))

    # Falcon's own handler of HTTPError would take precedence over the one for Exception.
    app.add_error_handler(Exception, on_error)
    app.add_error_handler(falcon.HTTPError, on_error)
