"""The messages for customers and the names of codes, as the SDK in the same checkout has them."""

import runpy
from datetime import datetime
from pathlib import Path

from app.domain.codes import Code
from app.domain.self_service import RenewReason
from app.domain.texts import Text

# The image has this one file of the SDK at the same place (see Dockerfile), and not the package `kadun`.
_SOURCE = Path(__file__).resolve().parents[1] / "client" / "src" / "kadun" / "messages.py"
_MODULE = runpy.run_path(str(_SOURCE))

NAMES: dict[Code, Text] = {code: Text(*_MODULE["NAMES"][code]) for code in Code}
"""What the console calls a code."""
MESSAGES: dict[Code, Text] = {code: Text(*_MODULE["TEXTS"][code]) for code in Code}
"""What customers read, without a reference."""

RENEWALS: dict[RenewReason, Text] = {reason: Text(*_MODULE["TEXTS"][f"renew_{reason}"]) for reason in RenewReason}
"""Why a renewal is refused, as customers read it."""


def unbinding(next_unbind_at: datetime | None) -> Text:
    """Return what customers read of an unbinding that is not allowed; the time is in the zone that it has."""
    if next_unbind_at is None:
        return Text(*_MODULE["TEXTS"]["unbind_not_possible"])
    at = f"{next_unbind_at:%Y-%m-%d %H:%M:%S %z}"
    return Text(*(text.replace("{time}", at) for text in _MODULE["TEXTS"]["unbind_later"]))


def rejection(code: Code, reference: str) -> Text:
    """Return what customers read of a rejection, with the reference for the vendor's journal."""
    return Text(*(str(_MODULE["rejection"](code, reference, language)) for language in _MODULE["LANGUAGES"]))
