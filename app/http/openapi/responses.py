"""The responses of the OpenAPI document, from the statuses and codes that the service answers with."""

from collections import defaultdict
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from app.domain.codes import Code
from app.http.customer_messages import MESSAGES
from app.http.problems import MEDIA_TYPE, ProblemBody, ProblemCode
from app.http.verdicts import STATUS as VERDICT_STATUS
from app.http.verdicts import VerdictBody

Part = dict[str, Any]
_HEADERS: dict[str, Part] = {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}}
_CHALLENGE = {"required": True, "schema": {"type": "string", "pattern": "^Bearer"}}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer"}}}
_PROBLEMS: dict[ProblemCode, str] = {
    ProblemCode.INVALID_REQUEST: "The request's form is wrong; `field` names the field.",
    ProblemCode.LINK_REFUSED: "The link is missing, forged, expired or of another file, "
    "or its card is no longer valid.",
    ProblemCode.UNAUTHORIZED: "No token, or one that is unknown, has expired or was revoked.",
    ProblemCode.FORBIDDEN: "The token lacks the scope that `WWW-Authenticate` names, "
    "or may not be used from this address.",
    ProblemCode.CEILING_EXCEEDED: "More cards than the token may still issue or change today, too long ones, "
    "or of a batch that a file is for.",
    ProblemCode.NOT_FOUND: "There is nothing here.",
    ProblemCode.CARD_NOT_FOUND: "A card does not exist; nothing was changed.",
    ProblemCode.CLIENT_BLOCKED: "The address is on the vendor's block list.",
    ProblemCode.UNBIND_NOT_ALLOWED: "The customer may not unbind the card now; `next_unbind_at` says when.",
    ProblemCode.RENEW_NOT_ALLOWED: "The renewal is not possible; `reason` says why. Both cards are unchanged.",
    ProblemCode.BODY_TOO_LARGE: "The body is over 64 KiB; "
    "behind nginx over 16 KiB for verification, files and self-service.",
    ProblemCode.UNSUPPORTED_MEDIA_TYPE: "The body is not declared as JSON in UTF-8.",
    ProblemCode.CONFLICT: "A card is permanent, or would last longer than 100 years.",
    ProblemCode.IDEMPOTENCY_CONFLICT: "The Idempotency-Key was used for another request.",
    ProblemCode.TOO_MANY_REQUESTS: "Too many requests or refusals of one address, or unknown tokens.",
    ProblemCode.UNAVAILABLE: "The database is away, or the service is busy.",
}
_PROBLEM_HEADERS: dict[ProblemCode, Part] = {
    ProblemCode.UNAUTHORIZED: {"WWW-Authenticate": _CHALLENGE},
    ProblemCode.FORBIDDEN: {"WWW-Authenticate": _CHALLENGE | {"required": False}},
    ProblemCode.TOO_MANY_REQUESTS: _RETRY_AFTER,
    ProblemCode.UNAVAILABLE: _RETRY_AFTER,
}


def response(description: str, content: Part | None = None, **headers: Part) -> Part:
    return {"description": description, "headers": _HEADERS | headers, **({"content": content} if content else {})}


def json_content(kind: type[msgspec.Struct], **more: Any) -> Part:  # noqa: ANN401  # parts of a media type
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}, **more}}


def verdicts(*codes: Code) -> Part:
    by_status: dict[str, list[Code]] = defaultdict(list)
    for code in codes:
        by_status[VERDICT_STATUS[code][:3]].append(code)
    return {
        status: response(
            ". ".join(MESSAGES[code].en for code in same), _narrowed("application/json", VerdictBody, same)
        )
        for status, same in by_status.items()
    }


def problems(*codes: ProblemCode) -> Part:
    """Return the responses that are problems with these codes, by status; one alone is a component."""
    by_status: dict[str, list[ProblemCode]] = defaultdict(list)
    for code in codes:
        by_status[code.status[:3]].append(code)
    return {status: _problem_of(same) for status, same in by_status.items()}


def _problem_of(codes: list[ProblemCode]) -> Part:
    if len(codes) == 1:
        return {"$ref": f"#/components/responses/{codes[0]}"}
    return problem(" ".join(f"`{code}`: {_PROBLEMS[code]}" for code in codes), *codes)


def problem_components() -> Part:
    """Return a component for each code that an operation may answer with."""
    return {code: problem(description, code) for code, description in _PROBLEMS.items()}


def problem(description: str, *codes: ProblemCode) -> Part:
    """Return the response that is a problem with one of these codes."""
    headers = {name: header for code in codes for name, header in _PROBLEM_HEADERS.get(code, {}).items()}
    return response(description, _narrowed(MEDIA_TYPE, ProblemBody, codes), **headers)


def _narrowed(media_type: str, kind: type[msgspec.Struct], codes: Iterable[str]) -> Part:
    schema = {"$ref": f"#/components/schemas/{kind.__name__}", "properties": {"code": {"enum": list(codes)}}}
    return {media_type: {"schema": schema}}


def ok(kind: type[msgspec.Struct], status: HTTPStatus = HTTPStatus.OK, **headers: Part) -> Part:
    return {str(status.value): response(str(kind.__doc__), json_content(kind), **headers)}
