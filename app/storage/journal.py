"""The journal (日志): append entries, limit what strangers can write, and prune."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from peewee import fn

from app.domain.addresses import network_of
from app.domain.codes import Code, EventKind
from app.storage.models import Event

MAX_REFUSALS_PER_MINUTE = 20
"""The limit of refusals of each group that are journalled for one address; the rest only count in the metrics."""
PRUNE_BATCH = 10_000

BOUNDED_GROUPS = (
    (Code.CARD_NOT_FOUND, Code.CARD_FROZEN, Code.CARD_EXPIRED),
    (Code.FUNCTION_NOT_FOUND,),
    (Code.FUNCTION_FAILED, Code.FUNCTION_TIMEOUT),
)
"""Each group has its own limit, so that a stranger who tries cards cannot suppress a customer's traceback."""
PRUNED_KINDS = (EventKind.REJECTED, EventKind.FILE_DOWNLOADED, EventKind.LOGIN_REFUSED)
"""Kinds that strangers or normal use write. Operators' actions and activations are never pruned."""
code_or_kind = fn.COALESCE(Event.code, Event.kind)
"""The code of a rejection, the kind of any other entry; the indexes are on this expression."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A new journal entry; the fields are the columns of `Event` except the derived `ip_network`."""

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
        """Return the values by column."""
        return {**asdict(self), "ip_network": None if self.ip is None else network_of(self.ip)}


def codes_or_kinds(*kinds: EventKind | Code | None) -> list[str]:
    """Return the values of `code_or_kind` that these kinds and codes have; None stands for all."""
    rejections = [str(code) for code in Code if code is not Code.OK]
    found: list[str] = []
    for kind in kinds:
        if kind is None:
            found += rejections + [str(other) for other in EventKind if other is not EventKind.REJECTED]
        else:
            found += rejections if kind is EventKind.REJECTED else [str(kind)]
    return found


def append(entries: list[Entry]) -> None:
    """Write entries, in the caller's transaction."""
    if entries:
        Event.insert_many([entry.row() for entry in entries]).execute()


def append_rejection(entry: Entry) -> bool:
    """Write a rejection, unless its address has reached the limit of this minute; tell whether it was written.

    `CLIENT_MISMATCH` has no limit, because it is what vendors look for.
    """
    for group in BOUNDED_GROUPS:
        if entry.code in group and recent_refusals(entry, group).count() >= MAX_REFUSALS_PER_MINUTE:
            return False
    append([entry])
    return True


def recent_refusals(entry: Entry, group: tuple[Code, ...]) -> Any:  # noqa: ANN401  # a peewee query
    """Return the query for an address's refusals of a group within a minute, up to the limit."""
    return (
        Event.select()
        .where(
            (Event.ip_network == entry.row()["ip_network"])
            & (Event.at > entry.at - timedelta(minutes=1))
            & code_or_kind.in_(group)
        )
        .limit(MAX_REFUSALS_PER_MINUTE)
    )


def prune(before: datetime) -> int:
    """Delete up to `PRUNE_BATCH` entries of `PRUNED_KINDS` older than `before`, and nothing else; return how many."""
    old = (
        Event.select(Event.id)
        .where(code_or_kind.in_(codes_or_kinds(*PRUNED_KINDS)) & (Event.at < before))
        .limit(PRUNE_BATCH)
    )
    count: int = Event.delete().where(Event.id.in_(old)).execute()
    return count
