"""Following the journal: every entry once, none lost.

An entry gets its ID when it is written, and becomes visible when its transaction commits. So an entry with a lower ID
may appear after one with a higher ID, and asking for "all above the last" would lose it. Each look therefore asks for
all above `_floor` and leaves out those seen before. The floor rises on one condition: `pg_snapshot_xmin`, the oldest
transaction that still writes, has reached the number that was next when the IDs up to there had all been handed out.
"""

from app.storage import journal_lists
from app.storage.database import Database
from app.storage.journal_lists import Horizon, JournalFilter
from app.storage.models import Event

IN_FLIGHT = 10_000
"""The number of IDs before the newest whose transactions may still be running when the following begins."""


class Follower:
    """Reads the wanted entries as the journal grows; the database may be away between two looks."""

    def __init__(self, database: Database, wanted: JournalFilter) -> None:
        self._database = database
        self._wanted = wanted
        self._seen: set[int] = set()
        self._floor = self._next_floor = self._newest = 0
        self._settled_by = 0
        """The number of the transaction that `pg_snapshot_xmin` has to reach for the floor to rise to the next."""

    def begin(self, limit: int | None) -> list[Event]:
        """Return the newest `limit` entries, oldest first; None for all.

        Raises:
            DatabaseUnavailableError: the database is away.
        """

        def read() -> list[Event]:
            self._newest = journal_lists.horizon(self._database).newest_id
            self._floor = self._next_floor = max(0, self._newest - IN_FLIGHT)
            self._seen = set(journal_lists.ids_after(self._wanted, self._floor))
            found = journal_lists.page(self._wanted, limit=limit).rows[::-1]
            self._seen.update(event.id for event in found)
            return found

        return self._database.with_connection(read)

    def look(self) -> list[Event]:
        """Return the entries that became visible since the last look, by ID.

        Raises:
            UnavailableError: look again later; nothing is lost.
        """

        def read() -> tuple[Horizon, list[Event]]:
            # The horizon first: the entries of all transactions that had ended by then are visible.
            now = journal_lists.horizon(self._database)
            new = set(journal_lists.ids_after(self._wanted, self._floor)) - self._seen
            return now, journal_lists.entries(new) if new else []

        now, found = self._database.with_connection(read)
        self._seen.update(event.id for event in found)
        if now.oldest_running >= self._settled_by:
            # The IDs up to the last look's newest were handed out before it, to transactions that have numbers by now.
            self._floor, self._next_floor, self._settled_by = self._next_floor, self._newest, now.next_transaction
            self._seen = {event_id for event_id in self._seen if event_id > self._floor}
        self._newest = now.newest_id
        return found
