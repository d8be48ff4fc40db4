"""The messages for customers and the names of codes, as the SDK has them, in the language that a request prefers."""

import json
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import falcon

from app.domain.codes import Code
from app.domain.self_service import RenewReason
from app.domain.texts import Text

# The image has this file of the SDK at the same place (see Dockerfile), and not the package `kadun`.
_SOURCE = Path(__file__).resolve().parents[2] / "client" / "src" / "kadun" / "messages.json"
_DOCUMENT = json.loads(_SOURCE.read_text("utf-8"))
_WITH_REFERENCE = _DOCUMENT["templates"]["with_reference"]
_TEXTS = {key: Text(*both) for key, both in _DOCUMENT["texts"].items()}

NAMES: dict[Code, Text] = {code: Text(*_DOCUMENT["names"][code]) for code in Code}
"""What the console calls a code."""
MESSAGES: dict[Code, Text] = {code: _TEXTS[code] for code in Code}
"""What customers read, without a reference."""

RENEWALS: dict[RenewReason, Text] = {reason: _TEXTS[f"renew_{reason}"] for reason in RenewReason}
"""Why a renewal is refused, as customers read it."""


def unbinding(next_unbind_at: datetime | None) -> Text:
    """Return what customers read of an unbinding that is not allowed; the time is in the zone that it has."""
    if next_unbind_at is None:
        return _TEXTS["unbind_not_possible"]
    at = f"{next_unbind_at:%Y-%m-%d %H:%M:%S %z}"
    return Text(*(text.replace("{time}", at) for text in _TEXTS["unbind_later"]))


def rejection(code: Code, reference: str) -> Text:
    """Return what customers read of a rejection, with the reference for the vendor's journal."""
    pairs = zip(_WITH_REFERENCE, MESSAGES[code], strict=True)
    return Text(*(template.format(message=message, reference=reference) for template, message in pairs))


def in_language_of(request: falcon.Request, text: Text) -> str:
    """Return the Chinese text, or the English text where the request's Accept-Language prefers it."""
    return text.en if prefers_english(request.get_header("ACCEPT-LANGUAGE") or "") else text.zh


@lru_cache(maxsize=256)
def prefers_english(accept_language: str) -> bool:
    """Tell whether an Accept-Language header (RFC 9110, section 12.5.4) ranks English over Chinese."""
    qualities: dict[str, float] = {}
    for item in accept_language.split(","):
        tag, _, parameters = item.strip().partition(";")
        language = tag.strip().lower().split("-")[0]
        if language in {"en", "zh"}:
            qualities[language] = max(qualities.get(language, 0.0), _quality(parameters))
    # Of equal ones the first that was named is the best.
    return qualities.get("en", 0.0) > 0 and max(qualities, key=qualities.__getitem__) == "en"


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        quality = float(value)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
