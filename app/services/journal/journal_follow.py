"""Following the journal: every entry once, none lost.

An entry gets its ID when it is written, and becomes visible when its transaction commits. So an entry with a lower ID
may appear after one with a higher ID, and asking for "all above the last" would lose it. Each look therefore asks for
all above `_floor` and leaves out those seen before.

The floor rises to a marked ID in two steps. First the mark rests: an ID is drawn a moment before its transaction gets a
number. Then all transactions with numbers from before the end of the rest must end (`pg_snapshot_xmin`).
"""

import time
from collections.abc import Callable

from app.services.journal.journal_lists import JournalFilter, matches, page
from app.storage.database import Database
from app.storage.models import Event

IN_FLIGHT = 10_000
"""The number of IDs before the newest whose transactions may still be running when the following begins."""
REST_SECONDS = 5.0
"""Within so many seconds after its ID was drawn, a transaction has a number; mostly it takes microseconds."""
_HORIZON = """
SELECT pg_snapshot_xmin(now)::text::bigint, pg_snapshot_xmax(now)::text::bigint,
    (SELECT COALESCE(max(id), 0) FROM event)
FROM pg_current_snapshot() AS now
"""
"""The oldest transaction that still writes, the one that will come next, the newest entry seen, at one moment."""


class Follower:
    """Reads the wanted entries as the journal grows; the database may be away between two looks."""

    def __init__(
        self, database: Database, wanted: JournalFilter, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._wanted = wanted
        self._monotonic = monotonic
        self._seen: set[int] = set()
        self._floor = self._mark = 0
        self._marked_at = 0.0
        self._settled_by: int | None = None
        """The transaction that `pg_snapshot_xmin` has to reach for the floor to rise to the mark, None in the rest."""

    def begin(self, limit: int | None) -> list[Event]:
        """Return the newest `limit` entries, oldest first; None for all."""
        (_, _, self._mark), self._marked_at = self._horizon(), self._monotonic()
        self._floor = max(0, self._mark - IN_FLIGHT)
        self._seen = self._above_floor()
        found = page(self._wanted, limit=limit).rows[::-1]
        self._seen.update(event.id for event in found)
        return found

    def look(self) -> list[Event]:
        """Return the entries that became visible since the last look, by ID; nothing is lost by an UnavailableError."""
        # The horizon first: the entries of all transactions that had ended by then are visible.
        oldest_running, next_transaction, newest_id = self._horizon()
        new = self._above_floor() - self._seen
        found = list(Event.select().where(Event.id.in_(new)).order_by(Event.id)) if new else []
        self._seen.update(event.id for event in found)
        if self._settled_by is None and self._monotonic() - self._marked_at >= REST_SECONDS:
            self._settled_by = next_transaction
        if self._settled_by is not None and oldest_running >= self._settled_by:
            self._floor = self._mark
            self._seen = {event_id for event_id in self._seen if event_id > self._floor}
            self._mark, self._marked_at, self._settled_by = newest_id, self._monotonic(), None
        return found

    def _horizon(self) -> tuple[int, int, int]:
        now: tuple[int, int, int] = self._database.execute_sql(_HORIZON).fetchone()
        return now

    def _above_floor(self) -> set[int]:
        where = matches(self._wanted) & (Event.id > self._floor)
        if self._wanted.since is not None:
            where &= Event.at >= self._wanted.since
        return {event_id for (event_id,) in Event.select(Event.id).where(where).tuples()}
