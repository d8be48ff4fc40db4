"""Read JSON request bodies strictly, before any rule (docs/protocol.md)."""

import json
import math
import re
from functools import lru_cache
from typing import Any, TypeVar

import falcon
import msgspec

from app.domain.texts import Text
from app.http.problems import Problem, body_too_large, invalid_request, unsupported_media_type
from app.http.schemas import MAX_NESTING, REQUIREMENTS

MAX_BODY_BYTES = 64 * 1024
_MAX_CONTENT_TYPE = 128
"""In characters. Falcon's parser takes quadratic time for what somebody made to be slow."""
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
Body = TypeVar("Body", bound=msgspec.Struct)


def read_body(request: falcon.Request) -> bytes:
    """Return the request's body; refuse one that is not declared as JSON, or is over 64 KiB."""
    content_type = request.content_type or ""
    if len(content_type) > _MAX_CONTENT_TYPE or not _is_json(content_type):
        raise unsupported_media_type()
    length = request.content_length
    if length is not None and length > MAX_BODY_BYTES:
        raise body_too_large(MAX_BODY_BYTES)
    if length is not None:
        body: bytes = request.stream.read(length)
        return body
    # Without a length the body is chunked (gunicorn ends the stream) or absent.
    stream = request.stream if request.env.get("wsgi.input_terminated") else request.bounded_stream
    body = stream.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise body_too_large(MAX_BODY_BYTES)
    return body


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    media_type, parameters = falcon.parse_header(content_type)
    return media_type.lower() == "application/json" and parameters.get("charset", "utf-8").lower() == "utf-8"


def parse(body: bytes, kind: type[Body]) -> Body:
    """Read a body of this kind (RFC 8259, UTF-8)."""
    try:
        request = msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        request = _read_again(body, kind)
    for name in kind.__struct_fields__:
        if not _is_storable(getattr(request, name)):
            raise invalid_request(
                Text(
                    f"{name} 不能含有 NUL 字符、不成对的代理字符、超出范围的数或超过 {MAX_NESTING} 层的嵌套。",
                    f"{name} must not hold NUL characters, lone surrogates, numbers beyond all bounds "
                    f"or more than {MAX_NESTING} levels.",
                ),
                name,
            )
    return request


def _read_again(body: bytes, kind: type[Body]) -> Body:
    """Read a body that msgspec refused, to name its first wrong field; a key given twice may have none."""
    try:
        document = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise invalid_request(Text("请求体必须是 UTF-8 编码的 JSON。", "The body must be JSON in UTF-8.")) from error
    if not isinstance(document, dict):
        raise invalid_request(Text("请求体必须是一个 JSON 对象。", "The body must be a JSON object."))
    for name in document:
        if name not in kind.__struct_fields__:
            named, known = shown(name), ", ".join(kind.__struct_fields__)
            raise invalid_request(
                Text(f"未知字段 {named}；可用字段：{known}。", f"Unknown field {named}; the fields are {known}."), named
            )
    for field in msgspec.structs.fields(kind):
        try:
            if field.required or field.name in document:
                msgspec.convert(document[field.name], field.type)
        except (KeyError, msgspec.ValidationError) as error:
            raise wrong_value(field.name) from error
    return msgspec.convert(document, kind)


def wrong_value(field: str) -> Problem:
    requirement = REQUIREMENTS[field]
    return invalid_request(Text(f"{field} {requirement.zh}。", f"{field} {requirement.en}."), field)


def shown(name: str) -> str:
    """Return a field's name for an error message: escaped and cut, because a stranger sent it."""
    return ascii(name[:64])[1:-1]


def _is_storable(value: object) -> bool:
    """Tell whether PostgreSQL and every reader of JSON can hold a value: no NUL, no lone surrogate, no infinity.

    One loop a level: to recurse into each value of a stranger's body takes eight times as long.
    """
    if value is None or type(value) is str:  # as nearly all are
        return value is None or not _UNSTORABLE.search(value)
    level: list[Any] = [value]
    levels = MAX_NESTING
    while level:
        inner: list[Any] = []
        for one in level:
            kind = type(one)  # isinstance takes three times as long
            if kind is list or kind is dict:
                if not levels:
                    return False
                inner += one
                inner += one.values() if kind is dict else ()
            elif (kind is str and _UNSTORABLE.search(one)) or (kind is float and not math.isfinite(one)):
                return False
        level, levels = inner, levels - 1
    return True
