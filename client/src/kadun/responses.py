"""What came back over HTTP: a token, a wish to wait, a refusal of the request's form, or neither."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kadun.decoding import parse_json_object
from kadun.errors import KadunError, RequestRefused, ServerUnreachable, UntrustedAnswer

# What our server calls a refused form (PROTOCOL section 3). Other pages are somebody else's: a portal's, a proxy's.
_PROBLEM = "application/problem+json"
_REFUSALS = frozenset(
    {"INVALID_REQUEST", "NOT_FOUND", "METHOD_NOT_ALLOWED", "BODY_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"}
)
_WORTH_ASKING_AGAIN = frozenset({429, 502, 503})
_SECONDS = re.compile(r"[0-9]{1,6}")
_SERVER_ERRORS = range(500, 600)
_CLIENT_ERRORS = range(400, 500)


@dataclass(frozen=True)
class Response:
    """An HTTP response, read to its end."""

    status: int
    body: bytes
    retry_after: str | None = None
    content_type: str | None = None


def token_from(answer: Response) -> str:
    """The token of a verdict. Only the token counts, whatever the status beside it says.

    Raises:
        ServerUnreachable: the server, or what stands before it, says to come back later.
        RequestRefused: the request's form was refused.
        UntrustedAnswer: this is neither (a web page, a redirect, …).
    """
    document = _object_or_none(answer.body)
    token = document.get("token") if document else None
    if isinstance(token, str):
        return token
    raise error_for(answer, document or {})


def key_set_from(answer: Response) -> bytes:
    """The body of `/.well-known/jwks.json`, believed for nothing but the signatures in it.

    Raises:
        ServerUnreachable: the server says to come back later.
        UntrustedAnswer: there is no key set.
    """
    if _object_or_none(answer.body) is not None and answer.status not in _WORTH_ASKING_AGAIN:
        return answer.body
    raise error_for(answer, {})


def error_for(answer: Response, problem: dict[str, Any]) -> KadunError:
    """What an answer amounts to that should have been something else."""
    passing = answer.status in _WORTH_ASKING_AGAIN
    if passing or answer.status in _SERVER_ERRORS:
        wait = _seconds(answer.retry_after)
        return ServerUnreachable(f"HTTP {answer.status}", wait, passing=passing, busy=True)
    if _is_refusal(answer, problem):
        return RequestRefused(problem["code"], str(problem.get("detail") or problem.get("title") or ""))
    return UntrustedAnswer(f"HTTP {answer.status} without a verdict")


def _is_refusal(answer: Response, problem: dict[str, Any]) -> bool:
    """Whether our own server refuses the form. It is not signed, so whatever is not just so is not ours."""
    media_type = (answer.content_type or "").partition(";")[0].strip().lower()
    code = problem.get("code")
    known = isinstance(code, str) and code in _REFUSALS
    return known and media_type == _PROBLEM and answer.status in _CLIENT_ERRORS


def _object_or_none(body: bytes) -> dict[str, Any] | None:
    try:
        return parse_json_object(body, "the answer")
    except UntrustedAnswer:
        return None


def _seconds(retry_after: str | None) -> int | None:
    """Retry-After in seconds. Its other form is a date, which a wrong local clock cannot read: left out."""
    return int(retry_after) if retry_after and _SECONDS.fullmatch(retry_after) else None
