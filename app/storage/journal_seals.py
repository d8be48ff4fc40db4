"""The seals of the journal, and what sealing needs to know of the journal."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from app.storage.database import Database
from app.storage.journal import is_probe
from app.storage.models import Event, JournalSeal

_LOCK = 0x7365616C  # "seal": an advisory lock, so that one process seals
_PAGE_ROWS = 5_000
_LOWEST = -(1 << 63)  # of a bigint: forged entries may have IDs that no sequence draws

# A transaction takes this lock before it draws an entry's ID, and keeps it until it ends.
_WRITERS = """
SELECT virtualtransaction FROM pg_locks
WHERE relation = 'event'::regclass AND mode = 'RowExclusiveLock' AND granted AND pid <> pg_backend_pid()
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

SEALED = (
    Event.id,
    Event.at,
    Event.kind,
    Event.code,
    Event.card_id,
    Event.reference,
    Event.ip,
    Event.ip_network,
    Event.claimed_ip,
    Event.hardware,
    Event.function,
    Event.actor,
    Event.details,
)
"""The columns of an entry that its digest covers, in this order. A new column is not among them: seals stay valid."""


def begin_alone(database: Database) -> bool:
    """Take the lock for sealing until the transaction ends; return False if another connection has it."""
    taken: bool = database.execute_sql("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,)).fetchone()[0]
    return taken


def writers(database: Database) -> set[str]:
    """Return the other transactions that may have drawn IDs of entries that are not yet visible."""
    return {row[0] for row in database.execute_sql(_WRITERS).fetchall()}


def last() -> JournalSeal | None:
    """Return the last seal, without its digests."""
    found: JournalSeal | None = (
        JournalSeal.select(JournalSeal.number, JournalSeal.last_event, JournalSeal.token)
        .order_by(JournalSeal.number.desc())
        .first()
    )
    return found


def oldest_unsealed(now: datetime, slack: timedelta) -> datetime | None:
    """Return the time of the oldest entry without a seal, None if there is none.

    Entries after the last seal by more than `slack` count whatever their IDs: a forged entry with a high ID, once it is
    sealed, keeps all later ones from being sealed. So would a forged seal from the future, which does not count.
    """
    seal = (
        JournalSeal.select(JournalSeal.last_event, JournalSeal.created_at)
        .where(JournalSeal.created_at <= now + slack)
        .order_by(JournalSeal.number.desc())
        .first()
    )
    sealed = Event.select(Event.at).where(~is_probe())
    by_id, by_time = sealed.order_by(Event.id), sealed.order_by(Event.at, Event.id)
    if seal is not None:
        by_id, by_time = by_id.where(Event.id > seal.last_event), by_time.where(Event.at > seal.created_at + slack)
    found = (query.limit(1).scalar() for query in (by_id, by_time))
    return min((at for at in found if at is not None), default=None)


def insert(number: int, last_event: int, digests: bytes, token: str, at: datetime) -> None:
    """Write a seal."""
    JournalSeal.insert(number=number, last_event=last_event, digests=digests, token=token, created_at=at).execute()


def seals() -> Iterator[JournalSeal]:
    """Yield all seals in their order; only one is in memory."""
    number = 0
    while (
        seal := JournalSeal.select().where(JournalSeal.number > number).order_by(JournalSeal.number).first()
    ) is not None:
        yield seal
        number = seal.number


def to_be_sealed(first: int, until: int, limit: int) -> list[tuple[object, ...]]:
    """Return up to `limit` entries with IDs from one up to another, by their `SEALED` columns, in order.

    Probes are not among them, since `cardctl doctor` deletes them.
    """
    wanted = Event.id.between(first, until) & ~is_probe()
    return list(Event.select(*SEALED).where(wanted).order_by(Event.id).limit(limit).tuples())


def all_entries(until: int) -> Iterator[tuple[bool, tuple[object, ...]]]:
    """Yield all entries with IDs up to one, by their `SEALED` columns, in order, each with whether it is a probe."""
    first = _LOWEST
    query = Event.select(is_probe(), *SEALED).order_by(Event.id).limit(_PAGE_ROWS)
    while page := list(query.where(Event.id.between(first, until)).tuples()):
        yield from ((row[0], row[1:]) for row in page)
        first = page[-1][1] + 1
