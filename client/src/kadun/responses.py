"""HTTP responses: a token, a request to wait, a refusal of a malformed request, or something untrusted."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from kadun.decoding import parse_json_object
from kadun.errors import KadunError, RequestRefused, ServerUnreachable, UntrustedAnswer

# The genuine server's refusals of malformed requests (docs/protocol.md, "Problems"). Others are a portal's or proxy's.
_PROBLEM = "application/problem+json"
_REFUSALS = ("INVALID_REQUEST", "NOT_FOUND", "METHOD_NOT_ALLOWED", "BODY_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE")
_RETRYABLE = frozenset({429, 502, 503})
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
    """Return the token of a verdict. The HTTP status does not matter if there is a token."""
    document = object_or_none(answer.body)
    token = document.get("token") if document else None
    if isinstance(token, str):
        return token
    raise error_for(answer, document or {})


def endorsements_from(answer: Response) -> list[object]:
    """Return the endorsements in `/.well-known/jwks.json`; only their signatures prove anything."""
    document = object_or_none(answer.body)
    if document is None or answer.status in _RETRYABLE:
        raise error_for(answer, {})
    endorsements = document.get("endorsements")
    if not isinstance(endorsements, list):
        raise UntrustedAnswer("the key set has no endorsements")
    return endorsements


def error_for(answer: Response, problem: dict[str, Any]) -> KadunError:
    """Return the error for a response without a verdict, or without what was requested."""
    passing = answer.status in _RETRYABLE
    if passing or answer.status in _SERVER_ERRORS:
        # A date is ignored, because the local clock may be wrong.
        wait = int(answer.retry_after) if answer.retry_after and _SECONDS.fullmatch(answer.retry_after) else None
        return ServerUnreachable(f"HTTP {answer.status}", wait, passing=passing, busy=True)
    if is_problem(answer, problem, _REFUSALS):
        return RequestRefused(problem["code"], detail_of(problem))
    return UntrustedAnswer(f"HTTP {answer.status} without a verdict")


def is_problem(answer: Response, problem: dict[str, Any], codes: Container[str]) -> bool:
    """Return whether the genuine server refuses with one of these codes. Unsigned, so its form must match exactly."""
    media_type = (answer.content_type or "").partition(";")[0].strip().lower()
    code = problem.get("code")
    known = isinstance(code, str) and code in codes
    return known and media_type == _PROBLEM and answer.status in _CLIENT_ERRORS


def detail_of(problem: dict[str, Any]) -> str:
    """Return what a problem says about itself, or an empty string. It is not signed, and may be of any length."""
    return str(problem.get("detail") or problem.get("title") or "")


def object_or_none(body: bytes) -> dict[str, Any] | None:
    """Return the body as a JSON object; None if it is anything else."""
    try:
        return parse_json_object(body, "the answer")
    except UntrustedAnswer:
        return None
