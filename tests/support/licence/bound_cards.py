"""Cards in any state, written straight into the tables; their verifications without a server; the tables' rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import jwt

from app.domain.cards.cards import id_from_random
from app.domain.codes import Change, EventKind
from app.domain.licence.policy import VerificationRequest
from app.services.licence.licence import Verdict, Verification
from app.storage import journal
from app.storage.journal import Entry
from app.storage.models import Card, Client, Event, Usage
from tests.support.services.service import OPEN

DAYS_30 = timedelta(days=30)
ADDRESS = "198.51.100.1"
TRICKY = ["f", "NULL", "null", '"', "\\", "\\\\", '\\"', "{", "}", "{}", ",", '","', "'", "''", "; --", "%s", "$1"]
TRICKY += ["😀", "\n", "\t \r", "\x01", " ", "E'\\n'", '{"f"}', "打开程序", "𝔥" * 64, "\\" * 64, '"' * 64]
TRICKY += ["\ufeff", "\u202e"]
WIDTH = 64
"""The most characters of a card ID or a function (app/http/schemas.py)."""
Rows = list[list[dict[str, Any]]]


def numbered_id(number: int) -> str:
    return id_from_random(number.to_bytes(20))


@dataclass(frozen=True)
class CardState:
    """A card with its client and its usage; `expires_in` counts from the time that the test asks at."""

    is_activated: bool = True
    expires_in: timedelta | None = DAYS_30
    is_frozen: bool = False
    hardware: str | None = None
    address: str = ADDRESS
    functions: tuple[tuple[date, str], ...] = ()


def write(states: Iterable[CardState], at: datetime) -> list[str]:
    """Write cards, each with a client of its own unless its hardware is None; return their IDs."""
    cards: list[dict[str, Any]] = []
    clients: list[dict[str, Any]] = []
    usage: list[dict[str, Any]] = []
    before = at - timedelta(days=1)
    for number, state in enumerate(states):
        card_id, begun = numbered_id(number), before if state.is_activated else None
        card = {"id": card_id, "is_activated": state.is_activated, "activated_at": begun, "created_at": before}
        card["validity"] = None if state.expires_in is None else DAYS_30
        card["expires_at"] = at + state.expires_in if state.is_activated and state.expires_in is not None else None
        cards.append(card | {"frozen_at": before if state.is_frozen else None})
        if state.hardware is not None:
            machine = {"hardware": state.hardware, "hardware_sha256": sha256(state.hardware.encode()).hexdigest()}
            seen = {"ip": state.address, "requested_at": before, "function": "before"}
            clients.append({"id": card_id, "card": card_id, **machine, **seen})
        for day, function in state.functions:
            usage.append({"card": card_id, "day": day, "function": function, "count": 1, "last_at": before})
    for table, values in ((Card, cards), (Client, clients), (Usage, usage)):
        if values:
            table.insert_many(values).execute()
    return [card["id"] for card in cards]


def write_bound(count: int, at: datetime, *functions: tuple[date, str]) -> list[str]:
    """Write cards in use, each bound to the hardware `hardware_of` its ID."""
    ids = [numbered_id(number) for number in range(count)]
    return write([CardState(hardware=hardware_of(card_id), functions=functions) for card_id in ids], at)


def hardware_of(card_id: str) -> str:
    return f"machine of {card_id}"


def asking(
    card_id: str, function: str = "f", *, hardware: str | None = None, address: str = ADDRESS
) -> VerificationRequest:
    """A request, from the machine that `write_bound` has bound the card to unless another is named."""
    hardware = hardware_of(card_id) if hardware is None else hardware
    return VerificationRequest.from_fields(card_id, hardware, function, "n" * 22, address)


def clear() -> None:
    for table in (Usage, Client, Card):
        table.delete().execute()


def rows() -> Rows:
    """All rows of the tables of cards, clients and usage, in order."""
    keys = ((Card, [Card.id]), (Client, [Client.id]), (Usage, [Usage.card, Usage.day, Usage.function]))
    return [list(table.select().order_by(*key).dicts()) for table, key in keys]


def counts(day: date) -> dict[tuple[str, str], int]:
    columns = (Usage.card, Usage.function, Usage.count)
    return {
        (card, function): count for card, function, count in Usage.select(*columns).where(Usage.day == day).tuples()
    }


def ask(
    verification: Verification, card_id: str, hardware: str = "h1", address: str = "198.51.100.1", function: str = OPEN
) -> Verdict:
    return verification.verify(VerificationRequest.from_fields(card_id, hardware, function, "n" * 22, address))


def claims(verdict: Verdict) -> dict[str, object]:
    return jwt.decode(verdict.token, options={"verify_signature": False})


def kinds() -> list[str]:
    """Return the kinds of the journal's entries in their order, but those of issuing."""
    return [event.kind for event in Event.select().order_by(Event.id) if event.kind != EventKind.ISSUED]


class Environment(NamedTuple):
    machine: str
    ip: str


def change(card_id: str, before: Environment, after: Environment, at: datetime) -> None:
    """Journal that a card was used in another environment than before."""
    counted = Change.ADDRESS_CHANGED if before.machine == after.machine else Change.HARDWARE_CHANGED
    seen: dict[str, Any] = {"card_id": card_id, "ip": after.ip, "hardware": after.machine, "counted": counted}
    details = {"before": {"hardware": before.machine, "ip": before.ip}}
    entry = Entry(at, EventKind.ENVIRONMENT_CHANGED, details=details, **seen)
    journal.append_counted([entry], at.astimezone(ZoneInfo("Asia/Shanghai")).date())
