"""The bodies, parameters and headers of the shops' API."""

import re
from datetime import timedelta
from typing import Annotated

import falcon
import msgspec
from msgspec import Meta

from app.domain.cards import ValidityError, parse_duration, parse_validity
from app.domain.texts import MAX_TEXT, RefusedError, Text, check_text
from app.http import json_body
from app.http.problems import invalid_request
from app.http.schemas import TypedCardId

MAX_COUNT = 1000
MAX_CARDS = 100
KEY_HEADER = "Idempotency-Key"
KEY_PATTERN = "[!-~]{1,64}"
_NAMED_DURATIONS = "day|week|month|quarter|year|[0-9]{1,10}[smhdw]"
_DURATIONS = "30s, 45m, 12h, 30d, 1w, day, week, month, quarter, year: from 1 second to 100 years."
_Ids = Annotated[list[TypedCardId], Meta(min_length=1, max_length=MAX_CARDS)]
_Text = Annotated[
    str, Meta(min_length=1, max_length=MAX_TEXT, extra_json_schema={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$"})
]

# An order's digest leaves out the fields that have their defaults: a field added by a later release changes no digest.


class IssueRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of `POST /v1/shop/cards`."""

    validity: Annotated[
        str,
        Meta(
            description=f"How long each card lasts once activated: permanent, {_DURATIONS}",
            extra_json_schema={"pattern": f"^(permanent|{_NAMED_DURATIONS})$"},
        ),
    ]
    # A float, because 1.0 is an integer in JSON.
    count: Annotated[float, Meta(ge=1, le=MAX_COUNT, multiple_of=1)] | None = None
    batch: Annotated[_Text | None, Meta(description="The vendor's name for these cards: printable characters.")] = None
    note: Annotated[_Text | None, Meta(description="A note on each card: printable characters.")] = None


class CardsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of `POST /v1/shop/cards/freeze` and of `…/unfreeze`."""

    ids: _Ids


class ExtendRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of `POST /v1/shop/cards/extend`."""

    ids: _Ids
    by: Annotated[str, Meta(description=_DURATIONS, extra_json_schema={"pattern": f"^({_NAMED_DURATIONS})$"})]


_ID = Text("必须是 1 到 64 个字符的字符串，且不全是空白", "must be a string of 1 to 64 characters, not all white space")
_TEXT = Text(f"必须是 1 到 {MAX_TEXT} 个可打印字符", f"must be 1 to {MAX_TEXT} printable characters")
_DURATION = Text(
    "必须是 1 秒到 100 年的时长：30s、45m、12h、30d、1w，或 day、week、month、quarter、year",
    "must be a duration from 1 second to 100 years: 30s, 45m, 12h, 30d, 1w, or day, week, month, quarter, year",
)
REQUIREMENTS: dict[str, Text] = {
    "validity": Text(f"{_DURATION.zh}，或 permanent", f"{_DURATION.en}, or permanent"),
    "count": Text(f"必须是 1 到 {MAX_COUNT} 的整数", f"must be an integer from 1 to {MAX_COUNT:,}"),
    "batch": _TEXT,
    "note": _TEXT,
    "id": Text(f"{_ID.zh}，且只给一次", f"{_ID.en}, and given once"),
    "ids": Text(
        f"必须是 1 到 {MAX_CARDS} 个卡密的列表，每个 1 到 64 个字符",
        f"must be a list of 1 to {MAX_CARDS} card IDs of 1 to 64 characters each",
    ),
    "by": _DURATION,
    KEY_HEADER: Text(
        "请求头必须有，且是 1 到 64 个可见 ASCII 字符", "header must be there, with 1 to 64 visible ASCII characters"
    ),
}
"""What each field must be, for error messages."""


def parse_issue_request(body: bytes) -> tuple[IssueRequest, timedelta | None]:
    """Read an order of new cards, and their validity."""
    asked = json_body.parse(body, IssueRequest, REQUIREMENTS)
    for field, text in (("batch", asked.batch), ("note", asked.note)):
        try:
            check_text(field, text)
        except RefusedError as error:
            raise json_body.wrong_value(field, REQUIREMENTS[field]) from error
    try:
        return asked, parse_validity(asked.validity)
    except ValidityError as error:
        raise json_body.wrong_value("validity", REQUIREMENTS["validity"]) from error


def parse_change_request(body: bytes, *, extends: bool) -> tuple[CardsRequest | ExtendRequest, timedelta | None]:
    """Read the IDs of the cards to change, and the duration to add to cards to extend."""
    if not extends:
        return json_body.parse(body, CardsRequest, REQUIREMENTS), None
    asked = json_body.parse(body, ExtendRequest, REQUIREMENTS)
    try:
        return asked, parse_duration(asked.by)
    except ValidityError as error:
        raise json_body.wrong_value("by", REQUIREMENTS["by"]) from error


def parse_card_query(request: falcon.Request) -> str:
    """Return the card ID in the query string."""
    unknown = next((name for name in request.params if name != "id"), None)
    if unknown is not None:
        shown = ascii(unknown[:64])[1:-1]
        raise invalid_request(
            Text(f"未知参数 {shown}；可用参数：id。", f"Unknown parameter {shown}; the parameter is id."), shown
        )
    given = request.get_param_as_list("id") or []
    try:
        wanted: list[str] = msgspec.convert(given, Annotated[list[TypedCardId], Meta(min_length=1, max_length=1)])
    except msgspec.ValidationError as error:
        raise json_body.wrong_value("id", REQUIREMENTS["id"]) from error
    return wanted[0]


def idempotency_key(request: falcon.Request) -> str:
    """Return the order's idempotency key."""
    given = request.get_header(KEY_HEADER) or ""
    if not re.fullmatch(KEY_PATTERN, given):
        raise json_body.wrong_value(KEY_HEADER, REQUIREMENTS[KEY_HEADER])
    return given
