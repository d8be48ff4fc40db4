"""Verdicts as HTTP answers: their status codes and the messages for customers."""

from typing import Annotated

import falcon
import msgspec
from msgspec import Meta

from app.domain.codes import Code
from app.http.customer_messages import MESSAGES, in_language_of, rejection
from app.services.licence.licence import Verdict


class VerdictBody(msgspec.Struct):
    """A verdict, accepted or not."""

    code: Code
    message: Annotated[str, Meta(description="For people: Chinese, or English where Accept-Language prefers it.")]
    token: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z",
            description="A JWS: the only part to be trusted.",
        ),
    ]


STATUS = {
    Code.OK: falcon.HTTP_200,
    Code.CARD_NOT_FOUND: falcon.HTTP_404,
    Code.CARD_EXPIRED: falcon.HTTP_403,
    Code.CARD_FROZEN: falcon.HTTP_403,
    Code.CARD_SPENT: falcon.HTTP_403,
    Code.CLIENT_BLOCKED: falcon.HTTP_403,
    Code.CLIENT_MISMATCH: falcon.HTTP_403,
    Code.CLIENT_HAS_ANOTHER_CARD: falcon.HTTP_409,
    Code.TOO_MANY_CHANGES: falcon.HTTP_403,
    Code.UPDATE_REQUIRED: falcon.HTTP_403,
    Code.FUNCTION_NOT_FOUND: falcon.HTTP_404,
    Code.FUNCTION_FAILED: falcon.HTTP_502,
    Code.FUNCTION_TIMEOUT: falcon.HTTP_504,
}


def message(code: Code, reference: str, request: falcon.Request) -> str:
    """Return the message for the customer; a rejection's ends with its reference."""
    return in_language_of(request, MESSAGES[code] if code is Code.OK else rejection(code, reference))


def respond(request: falcon.Request, response: falcon.Response, verdict: Verdict) -> None:
    request.context.outcome = {"code": verdict.code, "reference": verdict.reference}
    response.status = STATUS[verdict.code]
    response.content_type = "application/json"
    response.set_header("Cache-Control", "no-store")
    shown = message(verdict.code, verdict.reference, request)
    response.data = msgspec.json.encode(VerdictBody(verdict.code, shown, verdict.token))
