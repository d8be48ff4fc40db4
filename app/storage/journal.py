"""The journal (日志): appending, bounding what strangers can write, and pruning."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from peewee import SQL, fn

from app.domain.addresses import network_of
from app.domain.codes import Code, EventKind
from app.storage.models import Event

REFUSALS_A_MINUTE = 20
"""So many refusals of each group are kept from one address, mismatches apart; the rest only count."""
PRUNE_BATCH = 10_000

BOUNDED_GROUPS = (
    (Code.CARD_NOT_FOUND, Code.CARD_FROZEN, Code.CARD_EXPIRED),
    (Code.FUNCTION_NOT_FOUND,),
    (Code.FUNCTION_FAILED, Code.FUNCTION_TIMEOUT),
)
"""Counted apart: whoever tries cards hides no traceback of a customer's behind the same address."""
PRUNED_KINDS = (EventKind.REJECTED, EventKind.FILE_DOWNLOADED, EventKind.LOGIN_REFUSED)
"""What strangers or mere use can write; operators' actions and activations stay for ever."""
what = fn.COALESCE(Event.code, Event.kind)
"""What an entry is, as the indexes have it: a rejection's code, anything else's kind."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal entry to be; the fields are the columns of `Event`, `ip_network` being derived."""

    at: datetime
    kind: EventKind
    code: Code | None = None
    card_id: str | None = None
    reference: str | None = None
    ip: str | None = None
    claimed_ip: str | None = None
    hardware: str | None = None
    function: str | None = None
    actor: str | None = None
    details: dict[str, Any] | None = None

    def row(self) -> dict[str, Any]:
        """Return the columns and their values."""
        return {**asdict(self), "ip_network": None if self.ip is None else network_of(self.ip)}


def whats(*kinds: EventKind | Code | None) -> list[str]:
    """Return the values of `what` that these kinds and codes have; None is any."""
    rejections = [str(code) for code in Code if code is not Code.OK]
    found: list[str] = []
    for kind in kinds:
        if kind is None:
            found += rejections + [str(other) for other in EventKind if other is not EventKind.REJECTED]
        else:
            found += rejections if kind is EventKind.REJECTED else [str(kind)]
    return found


def append(entries: list[Entry]) -> None:
    """Write entries, as part of the caller's transaction."""
    if entries:
        Event.insert_many([entry.row() for entry in entries]).execute()


def append_rejection(entry: Entry) -> bool:
    """Write a rejection, unless its address has had its share this minute; tell whether it was written.

    A mismatch is always written: it is what the vendor looks for.
    """
    for group in BOUNDED_GROUPS:
        if entry.code in group and recent_refusals(entry, group).count() >= REFUSALS_A_MINUTE:
            return False
    append([entry])
    return True


def recent_refusals(entry: Entry, group: tuple[Code, ...]) -> Any:  # noqa: ANN401  # a peewee query
    """Return the query for an address's refusals of a group within a minute, no more than are kept."""
    return (
        Event.select(SQL("1"))
        .where(
            (Event.ip_network == entry.row()["ip_network"])
            & (Event.at > entry.at - timedelta(minutes=1))
            & what.in_(group)
        )
        .limit(REFUSALS_A_MINUTE)
    )


def prune(before: datetime) -> int:
    """Delete up to `PRUNE_BATCH` entries of `PRUNED_KINDS` older than `before`, and nothing else; return how many."""
    old = Event.select(Event.id).where(what.in_(whats(*PRUNED_KINDS)) & (Event.at < before)).limit(PRUNE_BATCH)
    count: int = Event.delete().where(Event.id.in_(old)).execute()
    return count
