"""The document as a whole: its description, its paths, and the schemas that msgspec generates."""

from typing import Any

import msgspec

from app.http import schemas
from app.http.openapi import answers
from app.http.openapi.paths import PATHS
from app.http.openapi.responses import problem_components
from app.http.problems import ProblemBody
from app.http.verdicts import VerdictBody

_DESCRIPTION = (
    "Clients: docs/protocol.md. Shops (发卡平台): docs/selling.md.\n\nEvery GET answers HEAD, too, and every path "
    "OPTIONS with Allow. Another method is 405 (METHOD_NOT_ALLOWED) with Allow. Another path is 404 (NOT_FOUND). "
    "A 500 (INTERNAL_ERROR) is a defect, and in no operation's responses. Every answer of the app has X-Request-ID; "
    "nginx's own problems, 429 among them, have not. Readers ignore members that they do not know."
)
_KINDS = (
    *(schemas.VerifyRequest, schemas.ExecuteRequest),
    *(schemas.IssueRequest, schemas.CardsRequest, schemas.ExtendRequest, VerdictBody, ProblemBody),
    *(schemas.OwnCardRequest, schemas.RenewalRequest, answers.OwnCard),
    *(answers.KeySet, answers.IssuedCards, answers.ShopCard, answers.ChangedCards),
    *(answers.Health, answers.Readiness, answers.OpenApi),
)
_DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Kadun 卡盾",
        "version": "1",
        "summary": "A card-key (卡密) licence server.",
        "license": {"name": "MIT", "identifier": "MIT"},
        "description": _DESCRIPTION,
    },
    "servers": [{"url": "/"}],
    "tags": [
        {"name": "clients", "description": "The vendor's programs, on customers' machines."},
        {"name": "customers", "description": "Customers with their own cards, where the vendor allows it."},
        {"name": "shop", "description": "Shops (发卡平台), by token."},
        {"name": "service", "description": "The state of the service."},
    ],
    "paths": PATHS,
    "components": {
        "schemas": msgspec.json.schema_components(_KINDS, ref_template="#/components/schemas/{name}")[1],
        "responses": problem_components(),
        "headers": {"RequestId": {"description": "Also in the server's log.", "schema": {"type": "string"}}},
        "securitySchemes": {
            "shop": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "kd_…",
                "description": "`scripts/cardctl token add NAME --scope cards:issue,cards:read,…`",
            }
        },
    },
}
# `\Z`, the end of a text in Python's patterns, which msgspec checks, is `$` in those of JSON Schema (ECMA-262).
DOCUMENT = msgspec.json.encode(_DOCUMENT).replace(rb"\\Z", b"$")
"""The document as JSON."""
