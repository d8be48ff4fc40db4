"""The bodies of requests to the rules, of customers and of shops, and what is said of their wrong fields."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.domain.cards.cards import MAX_KEY_LENGTH
from app.domain.licence.policy import MAX_HARDWARE, OPEN_PROGRAM
from app.domain.licence.terms import MAX_VERSION, VERSION_PATTERN
from app.domain.programs import PROGRAM_PATTERN
from app.domain.texts import MAX_TEXT, Text

MAX_COUNT = 1000
MAX_CARDS = 100
MAX_NESTING = 64
"""How many objects and arrays may be inside each other in `arguments`; JSON readers give up far later."""
KEY_HEADER = "Idempotency-Key"
KEY_PATTERN = "[!-~]{1,64}"
_NAMED_DURATIONS = "day|week|month|quarter|year|[0-9]{1,10}[smhdw]"
_DURATIONS = "30s, 45m, 12h, 30d, 1w, day, week, month, quarter, year: from 1 second to 100 years."


def described(description: str, **bounds: Any) -> Meta:  # noqa: ANN401  # arguments of Meta
    """Return a string field's bounds with its description for the OpenAPI document.

    A field without a pattern gets the document's one against NUL characters, which `json_body.parse` refuses.
    """
    return Meta(description=description, extra_json_schema={"pattern": r"^[^\u0000]*$"}, **bounds)


TypedCardId = Annotated[
    str,
    described(
        "A card's ID as typed or pasted by a person: white space, dashes and underscores are ignored, letters may be "
        "small or full-width, quotation marks and a label such as `卡密：` may surround it. "
        "Or the key of a card imported from another system.",
        min_length=1,
        max_length=MAX_KEY_LENGTH,
        pattern=r"[^\s\u200b-\u200d\u2060\ufeff]",
    ),
]


_ClaimedAddress = Annotated[
    str, described("What the client believes its address to be; it decides nothing.", max_length=64)
]
_PublicKey = Annotated[
    str,
    described(
        "Raw X25519 public key, base64url, not of low order: asks for the key sealed.", pattern=r"^[A-Za-z0-9_-]{43}\Z"
    ),
]
_Version = Annotated[
    str, Meta(description="The program's version: dotted numbers.", pattern=VERSION_PATTERN, max_length=MAX_VERSION)
]
_Program = Annotated[
    str, Meta(description="The ID of one of the vendor's programs; by default `main`.", pattern=PROGRAM_PATTERN)
]


class VerifyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/verify` and `POST /v1/files`. Lengths count code points."""

    card_id: TypedCardId
    hardware: Annotated[str, described("Identifies the machine.", min_length=1, max_length=MAX_HARDWARE)]
    function: Annotated[
        str, described(f"What the program is doing. {OPEN_PROGRAM} earns KERNAL_DATA_KEY.", min_length=1, max_length=64)
    ]
    nonce: Annotated[str, described("Fresh for each request.", pattern=r"^[A-Za-z0-9_-]{16,64}\Z")]
    ip: _ClaimedAddress | None = None
    client_public_key: _PublicKey | None = None
    version: _Version | None = None
    program: _Program | None = None


class ExecuteRequest(VerifyRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /v1/execute`."""

    arguments: Annotated[
        dict[str, Any], Meta(description=f"The function's arguments; at most {MAX_NESTING} levels, no NUL characters.")
    ]


class OwnCardRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/self/status` and `POST /v1/self/unbind`."""

    card_id: TypedCardId


class RenewalRequest(OwnCardRequest, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/self/renew`: the card, and an unused one whose validity is added to it."""

    with_card_id: TypedCardId


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
    program: _Program | None = None


class CardsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of `POST /v1/shop/cards/freeze` and of `…/unfreeze`."""

    ids: Annotated[list[TypedCardId], Meta(min_length=1, max_length=MAX_CARDS)]


class ExtendRequest(CardsRequest, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of `POST /v1/shop/cards/extend`."""

    by: Annotated[str, Meta(description=_DURATIONS, extra_json_schema={"pattern": f"^({_NAMED_DURATIONS})$"})]


_CARD_ID = Text(
    "必须是 1 到 64 个字符的字符串，且不全是空白", "must be a string of 1 to 64 characters, not all white space"
)
_TEXT = Text(f"必须是 1 到 {MAX_TEXT} 个可打印字符", f"must be 1 to {MAX_TEXT} printable characters")
_DURATION = Text(
    "必须是 1 秒到 100 年的时长：30s、45m、12h、30d、1w，或 day、week、month、quarter、year",
    "must be a duration from 1 second to 100 years: 30s, 45m, 12h, 30d, 1w, or day, week, month, quarter, year",
)
REQUIREMENTS: dict[str, Text] = {
    "card_id": _CARD_ID,
    "with_card_id": _CARD_ID,
    "hardware": Text("必须是 1 到 1024 个字符的字符串", "must be a string of 1 to 1,024 characters"),
    "function": Text("必须是 1 到 64 个字符的字符串", "must be a string of 1 to 64 characters"),
    "nonce": Text("必须是 16 到 64 个 base64url 字符", "must be 16 to 64 characters of base64url"),
    "ip": Text("必须是不超过 64 个字符的字符串", "must be a string of at most 64 characters"),
    "version": Text(
        f"必须是用点分隔的数字（如 1.10），最多 {MAX_VERSION} 个字符",
        f"must be dotted numbers such as 1.10, at most {MAX_VERSION} characters",
    ),
    "program": Text("必须是服务器上的程序 ID", "must be the ID of one of the server's programs"),
    "client_public_key": Text(
        "必须是 X25519 公钥的 base64url 编码（43 个字符，无填充，且不是低阶点）",
        "must be an X25519 public key in base64url (43 characters, no padding, not of low order)",
    ),
    "arguments": Text("必须是一个 JSON 对象", "must be a JSON object"),
    "validity": Text(f"{_DURATION.zh}，或 permanent", f"{_DURATION.en}, or permanent"),
    "count": Text(f"必须是 1 到 {MAX_COUNT} 的整数", f"must be an integer from 1 to {MAX_COUNT:,}"),
    "batch": _TEXT,
    "note": _TEXT,
    "id": Text(f"{_CARD_ID.zh}，且只给一次", f"{_CARD_ID.en}, and given once"),
    "ids": Text(
        f"必须是 1 到 {MAX_CARDS} 个卡密的列表，每个 1 到 64 个字符",
        f"must be a list of 1 to {MAX_CARDS} card IDs of 1 to 64 characters each",
    ),
    "by": _DURATION,
    KEY_HEADER: Text(
        "请求头必须有，且是 1 到 64 个可见 ASCII 字符", "header must be there, with 1 to 64 visible ASCII characters"
    ),
}
"""What each field, parameter and header must be, for error messages."""
