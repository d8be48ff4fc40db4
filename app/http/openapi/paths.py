"""The operations of the public API."""

from http import HTTPStatus
from typing import Any

import msgspec

from app.domain.codes import Code
from app.domain.operators.operators import Scope
from app.http import schemas
from app.http.openapi import answers
from app.http.openapi.responses import Part, json_content, ok, problem, problems, response, verdicts
from app.http.problems import ProblemCode

EXAMPLE_ID = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_EXAMPLE = {"card_id": EXAMPLE_ID, "hardware": "disk-S4EVNX0M", "nonce": "aGVsbG8taGVsbG8taGVsbG8"}
_FUNCTION_CODES = (Code.FUNCTION_NOT_FOUND, Code.FUNCTION_FAILED, Code.FUNCTION_TIMEOUT)
_RULES = [code for code in Code if code not in _FUNCTION_CODES]
_ANY = (ProblemCode.TOO_MANY_REQUESTS,)
_READING = (ProblemCode.INVALID_REQUEST, ProblemCode.UNAVAILABLE, *_ANY)
_POSTING = (ProblemCode.BODY_TOO_LARGE, ProblemCode.UNSUPPORTED_MEDIA_TYPE, *_READING)
_SHOP = (ProblemCode.UNAUTHORIZED, ProblemCode.FORBIDDEN)
_ORDER_REFUSALS = (ProblemCode.IDEMPOTENCY_CONFLICT, ProblemCode.CEILING_EXCEEDED)
_OWN_CARD_REFUSALS = (ProblemCode.NOT_FOUND, ProblemCode.CARD_NOT_FOUND, ProblemCode.CLIENT_BLOCKED)
_LINK = "From the link: it opens one version of one file for 600 seconds."
_RANGE = "One range of bytes, to resume a download."
_NOT_LOGGED = "Not in the path, so that no log has it."
_KEY = {
    "type": "string",
    "pattern": f"^{schemas.KEY_PATTERN}$",
    "description": "The shop's own name for this order, its number for example. The same request sent again within 7 "
    "days gets the same answer and has no further effect.",
}
_REPLAYED: Part = {
    "Idempotency-Replayed": {"description": "`true` for a repeated answer.", "schema": {"const": "true"}}
}
_ETAG: Part = {"ETag": {"description": "The SHA-256 of the bytes.", "schema": {"type": "string"}}}
_BYTES: Part = {"application/octet-stream": {}}


def _operation(name: str, tag: str, summary: str, responses: Part, **more: Any) -> Part:  # noqa: ANN401  # of OpenAPI
    found = dict(sorted(responses.items()))
    return {"tags": [tag], "operationId": name, "summary": summary, "responses": found, **more}


def _body(kind: type[msgspec.Struct], example: Part) -> Part:
    return {"requestBody": {"required": True, "content": json_content(kind, example=example)}}


def _parameter(name: str, place: str, schema: Part, *, required: bool = True, **more: str) -> Part:
    return {"name": name, "in": place, "required": required, "schema": schema, **more}


def _licence(name: str, summary: str, description: str, body: Part, *codes: Code) -> Part:
    responses = verdicts(*_RULES, *codes) | problems(*_POSTING)
    return {"post": _operation(name, "clients", summary, responses, description=description, **body)}


def _own_card(name: str, summary: str, description: str, body: Part, *codes: ProblemCode) -> Part:
    responses = ok(answers.OwnCard) | problems(*_POSTING, *_OWN_CARD_REFUSALS, *codes)
    return {"post": _operation(name, "customers", summary, responses, description=description, **body)}


def _order(  # noqa: PLR0913  # the parts of an operation
    name: str, summary: str, description: str, scope: Scope, body: Part, success: Part, *codes: ProblemCode
) -> Part:
    responses = success | problems(*_POSTING, *_SHOP, *_ORDER_REFUSALS, *codes)
    key = _parameter(schemas.KEY_HEADER, "header", _KEY, example=f"{name}-20261111-0042")
    return {"post": _shop(name, summary, f"{description} Scope `{scope}`.", responses, key, **body)}


def _shop(name: str, summary: str, description: str, responses: Part, parameter: Part, **more: Part) -> Part:
    of_shops: Part = {"security": [{"shop": []}], "parameters": [parameter]}
    return _operation(name, "shop", summary, responses, description=description, **of_shops, **more)


def _document(name: str, tag: str, summary: str, kind: type[msgspec.Struct], *codes: ProblemCode) -> Part:
    return {"get": _operation(name, tag, summary, ok(kind) | problems(*codes, *_ANY))}


_TEXT = {"type": "string"}
_DOWNLOAD = _operation(
    "downloadFile",
    "clients",
    "下载文件 / A file's bytes, by a link from a verdict",
    {
        "200": response("All bytes.", _BYTES, **_ETAG),
        "206": response("The bytes asked for.", _BYTES, **_ETAG, **{"Content-Range": {"schema": _TEXT}}),
        "304": response("The client has these bytes already.", **_ETAG),
        "416": problem("The file has no such bytes.", ProblemCode.INVALID_REQUEST),
        **problems(ProblemCode.LINK_REFUSED, ProblemCode.CLIENT_BLOCKED, ProblemCode.NOT_FOUND),
        **problems(ProblemCode.UNAVAILABLE, *_ANY),
    },
    parameters=[
        _parameter("name", "path", {**_TEXT, "minLength": 1}, example="core.dat.age"),
        _parameter("token", "query", _TEXT, description=_LINK),
        _parameter("Range", "header", _TEXT, required=False, description=_RANGE, example="bytes=0-99"),
        _parameter("If-None-Match", "header", _TEXT, required=False),
    ],
)
_LOOK_UP = _shop(
    "lookUpCard",
    "查询卡密 / The state of a card",
    f"Scope `{Scope.CARDS_READ}`.",
    ok(answers.ShopCard) | problems(*_READING, *_SHOP, ProblemCode.CARD_NOT_FOUND),
    _parameter("id", "query", msgspec.json.schema(schemas.TypedCardId), description=_NOT_LOGGED, example=EXAMPLE_ID),
)
_OWN_CARD = _body(schemas.OwnCardRequest, {"card_id": EXAMPLE_ID})
_CHANGED = ok(answers.ChangedCards, **_REPLAYED)
_OF_CARDS = (_body(schemas.CardsRequest, {"ids": [EXAMPLE_ID]}), _CHANGED, ProblemCode.CARD_NOT_FOUND)

PATHS: Part = {
    "/v1/verify": _licence(
        "verify",
        "校验卡密 / May this card, on this machine, run this function?",
        "Believe the token and nothing else: docs/protocol.md says how to check it.",
        _body(schemas.VerifyRequest, _EXAMPLE | {"function": "打开程序"}),
    ),
    "/v1/files": _licence(
        "offerFiles",
        "文件列表 / The files that this card may fetch",
        "The body of verify; an accepted verdict's token lists the files and their links.",
        _body(schemas.VerifyRequest, _EXAMPLE | {"function": "下载"}),
    ),
    "/v1/files/{name}": {"get": _DOWNLOAD},
    "/v1/execute": _licence(
        "execute",
        "执行核心功能 / Run a function on the server",
        "The body of verify, with arguments; an accepted verdict's token carries the `result`.",
        _body(schemas.ExecuteRequest, _EXAMPLE | {"function": "汇率换算", "arguments": {"amount": 100}}),
        *_FUNCTION_CODES,
    ),
    "/v1/self/status": _own_card(
        "ownCard",
        "查询自己的卡密 / How a card stands",
        "404 (NOT_FOUND) unless the vendor offers self-service. Answers are not signed: no program decides by them.",
        _OWN_CARD,
    ),
    "/v1/self/unbind": _own_card(
        "unbindOwnCard",
        "自助解绑 / Unbind one's own card",
        "An unbound card stays as it is, and it costs nothing.",
        _OWN_CARD,
        ProblemCode.UNBIND_NOT_ALLOWED,
    ),
    "/v1/self/renew": _own_card(
        "renewOwnCard",
        "自助续费 / Add an unused card's validity to one's own card",
        "The unused card is spent afterwards. Refused, both cards stay as they were.",
        _body(schemas.RenewalRequest, {"card_id": EXAMPLE_ID, "with_card_id": EXAMPLE_ID[::-1]}),
        ProblemCode.RENEW_NOT_ALLOWED,
    ),
    "/.well-known/jwks.json": _document(
        "keySet", "clients", "公钥 / The public keys, and their endorsements", answers.KeySet
    ),
    "/v1/shop/cards": {
        "get": _LOOK_UP,
        **_order(
            "issueCards",
            "签发卡密 / Issue cards",
            "All in one transaction.",
            Scope.CARDS_ISSUE,
            _body(
                schemas.IssueRequest,
                {"validity": "month", "count": 1, "batch": "双十一", "note": "order 20261111-0042"},
            ),
            ok(answers.IssuedCards, HTTPStatus.CREATED, **_REPLAYED),
        ),
    },
    "/v1/shop/cards/freeze": _order(
        "freezeCards",
        "冻结卡密 / Freeze cards",
        "They are refused until unfrozen; their time goes on. All or none.",
        Scope.CARDS_FREEZE,
        *_OF_CARDS,
    ),
    "/v1/shop/cards/unfreeze": _order(
        "unfreezeCards", "解冻卡密 / Unfreeze cards", "All or none.", Scope.CARDS_FREEZE, *_OF_CARDS
    ),
    "/v1/shop/cards/extend": _order(
        "extendCards",
        "延期卡密 / Add time to cards",
        "To the later of now and the expiry of an activated card, to the validity of an unused one. All or none.",
        Scope.CARDS_EXTEND,
        _body(schemas.ExtendRequest, {"ids": [EXAMPLE_ID], "by": "30d"}),
        _CHANGED,
        ProblemCode.CARD_NOT_FOUND,
        ProblemCode.CONFLICT,
    ),
    "/v1/openapi.json": _document("openApi", "service", "接口文档 / This document", answers.OpenApi),
    "/healthz": _document("health", "service", "存活 / The process answers", answers.Health),
    "/readyz": _document(
        "readiness",
        "service",
        "就绪 / The database answers, and its schema is this program's",
        answers.Readiness,
        ProblemCode.UNAVAILABLE,
    ),
}
