"""Self-service (docs/protocol.md): customers renew and unbind their cards. Answers are not signed: show them only."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from kadun.asking import Asker
from kadun.errors import KadunError, UntrustedAnswer, printable
from kadun.messages import TEXTS, text
from kadun.request import json_body
from kadun.responses import Response, detail_of, error_for, is_problem, object_or_none

_OK = 200
_REFUSALS = frozenset({"RENEW_NOT_ALLOWED", "UNBIND_NOT_ALLOWED", "CARD_NOT_FOUND", "CLIENT_BLOCKED", "NOT_FOUND"})
_WORD = re.compile(r"[a-z_]{1,32}")
_YEARS = range(1971, 3000)  # all of them in any time zone, on Windows too


@dataclass(frozen=True)
class CardStatus:
    """What the server says about a card after a renewal or an unbinding. It is not signed: show it only."""

    status: str  # `unused`, `active`, `expired`, `frozen` or `spent`
    expires_at: datetime | None  # in UTC; None for a permanent card, and for one that is not activated
    bound: bool  # to a machine
    unbinds_left: int  # how often the customer may unbind the card now
    next_unbind_at: datetime | None  # if `unbinds_left` is 0; None if waiting does not help


class SelfServiceRefused(KadunError):
    """The server refused to renew or unbind the card.

    This is not a signed verdict: show it, but conclude nothing about the card.

    Attributes:
        code: `RENEW_NOT_ALLOWED`, `UNBIND_NOT_ALLOWED`, `CARD_NOT_FOUND`, `CLIENT_BLOCKED`, or `NOT_FOUND` where the
            vendor has not switched self-service on.
        reason: a word that says why a renewal is not allowed, such as `second_card_not_unused`; may be empty or new.
        next_unbind_at: when the card may be unbound again; None if waiting does not help, or if it is not known.
    """

    def __init__(self, code: str, detail: str = "", reason: str = "", next_unbind_at: datetime | None = None) -> None:
        self.reason = printable(reason)
        self.next_unbind_at = next_unbind_at
        self.text_key = self._text_key(code)
        self.code = code
        super().__init__(f"{self.reason}: {detail}" if reason else detail)

    def speak(self, language: str) -> None:
        """Set the language of the message, `zh` or `en`."""
        self.message = text(self.text_key, language)
        if self.next_unbind_at is not None:
            self.message = self.message.replace("{time}", f"{self.next_unbind_at.astimezone():%Y-%m-%d %H:%M:%S %z}")

    def _text_key(self, code: str) -> str:
        if f"renew_{self.reason}" in TEXTS:
            return f"renew_{self.reason}"
        if code == "RENEW_NOT_ALLOWED":
            return "renew_not_possible"
        if code == "UNBIND_NOT_ALLOWED":
            return "unbind_later" if self.next_unbind_at else "unbind_not_possible"
        return "self_service_off" if code == "NOT_FOUND" else code


def ask(asker: Asker, action: str, **fields: str) -> CardStatus:
    """Ask to `renew` or `unbind`, at most once: it may have been carried out even if the answer is lost."""
    body = json_body({"card_id": asker.card_id, **fields})
    return asker.with_retries(
        lambda: status_from(asker.transport.exchange(f"/v1/self/{action}", body, asker.language)), at_most_once=True
    )


def status_from(answer: Response) -> CardStatus:
    """Return what a response says about the card."""
    document = object_or_none(answer.body) or {}
    if is_problem(answer, document, _REFUSALS):
        raise _refusal(document)
    if answer.status != _OK:
        raise error_for(answer, document)
    status, bound, left = (document.get(name) for name in ("status", "bound", "unbinds_left"))
    if not isinstance(status, str) or not _WORD.fullmatch(status) or not isinstance(bound, bool):
        raise UntrustedAnswer("the answer does not say the status of a card")
    if isinstance(left, bool) or not isinstance(left, int) or left < 0:
        raise UntrustedAnswer("unbinds_left is missing or not a number")
    return CardStatus(status, _time(document, "expires_at"), bound, left, _time(document, "next_unbind_at"))


def _refusal(problem: dict[str, Any]) -> SelfServiceRefused:
    reason, next_unbind_at = problem.get("reason"), None
    with suppress(UntrustedAnswer):
        next_unbind_at = _time(problem, "next_unbind_at")
    reason = reason if isinstance(reason, str) else ""
    return SelfServiceRefused(problem["code"], detail_of(problem), reason, next_unbind_at)


def _time(document: dict[str, Any], name: str) -> datetime | None:
    value = document.get(name)
    if value is None:
        return None
    time = None
    with suppress(TypeError, ValueError):
        time = datetime.fromisoformat(re.sub("Z$", "+00:00", value))
    if time is None or time.tzinfo is None or time.year not in _YEARS:
        raise UntrustedAnswer(f"{name} is not a time with an offset")
    return time.astimezone(timezone.utc)
