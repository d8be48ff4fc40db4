"""The end of the journal, for following it."""

from collections.abc import Iterable
from typing import NamedTuple

from app.storage import journal_lists
from app.storage.database import Database
from app.storage.journal_lists import JournalFilter
from app.storage.models import Event

_HORIZON = """
SELECT pg_snapshot_xmin(now)::text::bigint, pg_snapshot_xmax(now)::text::bigint,
    (SELECT COALESCE(max(id), 0) FROM event)
FROM pg_current_snapshot() AS now
"""


class Horizon(NamedTuple):
    """One moment: the oldest transaction that still writes, the one that will come next, the newest entry seen."""

    oldest_running: int
    next_transaction: int
    newest_id: int


def horizon(database: Database) -> Horizon:
    """Return the moment now."""
    return Horizon(*database.execute_sql(_HORIZON).fetchone())


def ids_after(wanted: JournalFilter, event_id: int) -> list[int]:
    """Return the IDs of the matching entries above `event_id`."""
    where = journal_lists.matches(wanted) & (Event.id > event_id)
    if wanted.since is not None:
        where &= Event.at >= wanted.since
    return [row_id for (row_id,) in Event.select(Event.id).where(where).tuples()]


def entries(ids: Iterable[int]) -> list[Event]:
    """Return these entries, in the order of their IDs."""
    return list(Event.select().where(Event.id.in_(list(ids))).order_by(Event.id))
