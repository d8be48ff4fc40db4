"""Checks that every answer of the public API that a test gets is one that the OpenAPI document has."""

import json
import re
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs

from app.http.openapi.document import DOCUMENT

OPENAPI: dict[str, Any] = json.loads(DOCUMENT)
_PATHS = [
    (re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))), operations)
    for template, operations in OPENAPI["paths"].items()
]


def check(method: str, target: str, status: int, headers: dict[str, str], content: bytes) -> None:
    """Assert that an answer is one that the document has for this request; the headers' names are in lower case."""
    path = urlsplit(target).path
    operation = _operation(method, path)
    if operation is None:
        return
    documented = resolved(operation["responses"]).get(str(status))
    said = f"{method} {path} {status}"
    assert documented is not None, f"{said} is not in the OpenAPI document"
    documented = resolved(documented)
    for name, header in documented.get("headers", {}).items():
        assert name.lower() in headers or not resolved(header).get("required"), f"{said} lacks {name}"
    media_type = headers.get("content-type", "").partition(";")[0]
    kinds = documented.get("content", {})
    if method != "HEAD" and (kinds or content):
        assert media_type in kinds, f"{said} is {media_type}"
        if "schema" in kinds[media_type]:  # which only JSON has
            _validator(json.dumps(kinds[media_type]["schema"])).validate(json.loads(content))


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    found: Any = OPENAPI
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return dict(found)


def _operation(method: str, path: str) -> dict[str, Any] | None:
    asked = "GET" if method == "HEAD" else method
    for template, operations in _PATHS:
        if template.fullmatch(path):
            found: dict[str, Any] | None = operations.get(asked.lower())
            return found
    return None


@cache
def _validator(schema: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator({**json.loads(schema), "components": OPENAPI["components"]})
