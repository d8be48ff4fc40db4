"""The overview's figures: counted now and then, shown at once."""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from time import monotonic
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import peewee

from app.domain.errors import ConflictError, DatabaseUnavailableError
from app.services.formatting import local
from app.services.statistics import DAYS, collect, document
from app.storage import figures, groupings, statistics
from app.storage.database import Database

FRESH_FOR = timedelta(seconds=60)
SHARING_WITHIN = timedelta(days=7)
MOST_GROUPS = 50
QUICK_BYTES, QUICK_SECONDS = 8 * 2**20, 1.0
logger = logging.getLogger(__name__)


class Counted(NamedTuple):
    """Figures, and when they were counted.

    The document is JSON; times in ISO 8601 with the zone's offset, days as YYYY-MM-DD in the zone:
      cards: {total, frozen, expired, active, unused}
      batches: {count, largest: [{batch, cards, frozen, expired, active, unused}]}
      days: [{day, activations, requests}] the last 14, today last
      rejections: [{code, last_24_hours, last_7_days}] most frequent first
      rejection_days: [{day, counts: {code: n}}] the last 14, today last
      expiring: {count, first: [{id, expires_at, batch, note}]} within 7 days
      expiring_days: [{day, cards}] active cards by the day of their expiry, today and the 13 days after
      functions: [{function, requests}] of the last 14 days
      sharing: {cards: […], machines: […], networks: […]} of the last 7 days' rejections, up to 50 each:
        cards: {card_id, machines, networks, rejections, first_at, last_at} mismatches of one card, most machines first
        machines: {hardware, cards, networks, rejections, first_at, last_at} one machine with many cards
        networks: {network, cards, machines, rejections, first_at, last_at} one address with many cards
    """

    at: datetime
    document: dict[str, Any]


class Figures:
    """The figures of one database; shared by all threads.

    Where that is quick, they are counted whenever somebody asks. Else whoever asks gets what was counted last, and when
    that is older than `FRESH_FOR`, one thread of one process counts anew meanwhile.

    Args:
        database: The service's.
        clock: Returns the time now, aware.
        zone: The vendor's, in which days are counted.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime], zone: ZoneInfo) -> None:
        self._database = database
        self._clock = clock
        self._zone = zone
        self._counting = threading.Lock()

    def current(self) -> Counted | None:
        """Return the figures as counted last; None while they are counted for the first time.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        last, size = self._database.with_connection(lambda: (figures.read(), figures.counted_bytes(self._database)))
        # By size first: since the last count a database may have grown a thousandfold, by an import.
        if size <= QUICK_BYTES and (last is None or last.seconds < QUICK_SECONDS):
            return self._count()
        if last is None or self.is_old(last.counted_at):
            self._count_meanwhile()
        return None if last is None else Counted(last.counted_at, last.document)

    def is_old(self, counted_at: datetime) -> bool:
        """Tell whether figures that were counted then are being counted anew by now: `current` sees to that."""
        return abs(self._clock() - counted_at) > FRESH_FOR  # also when the clock was wrong, and far ahead

    def _count_meanwhile(self) -> None:
        if not self._counting.acquire(blocking=False):
            return
        try:
            threading.Thread(target=self._count_alone, name="figures", daemon=True).start()
        except RuntimeError:  # no more threads: the container's limit
            self._counting.release()
            logger.warning("no thread to count the overview's figures; the next visit tries again", exc_info=True)

    def _count_alone(self) -> None:
        """Count, on a connection of this thread's own, unless somebody else does or just did."""
        try:
            if self._database.with_connection(lambda: figures.begin_alone(self._database)):
                last = self._database.with_connection(figures.read)
                if last is None or self.is_old(last.counted_at):
                    self._count()
        except (DatabaseUnavailableError, ConflictError, peewee.PeeweeException):
            logger.warning("counting the overview's figures failed; the next visit tries again", exc_info=True)
        finally:
            self._database.close()
            self._counting.release()

    def _count(self) -> Counted:
        now, begun = self._clock(), monotonic()
        counted = Counted(now, document(collect(self._database, now, self._zone), self._zone) | self._more(now))
        self._database.with_connection(lambda: figures.write(now, monotonic() - begun, counted.document))
        return counted

    def _more(self, now: datetime) -> dict[str, Any]:
        """Count what `app.services.statistics` has not."""
        today = now.astimezone(self._zone).date()
        past = [today - timedelta(days=back) for back in reversed(range(DAYS))]
        coming = [today + timedelta(days=ahead) for ahead in range(DAYS)]

        def count() -> dict[str, Any]:
            rejections = statistics.rejections_by_day(self._midnight(past[0]), self._zone)
            expiring = statistics.expiring_by_day(now, self._midnight(coming[-1] + timedelta(days=1)), self._zone)
            return {
                "rejection_days": [{"day": day.isoformat(), "counts": rejections.get(day, {})} for day in past],
                "expiring_days": [{"day": day.isoformat(), "cards": expiring.get(day, 0)} for day in coming],
                "sharing": self._sharing(now - SHARING_WITHIN),
            }

        return self._database.with_connection(count)

    def _sharing(self, since: datetime) -> dict[str, list[dict[str, Any]]]:
        groups: dict[str, Sequence[Any]] = {
            "cards": groupings.shared_cards(since, MOST_GROUPS),
            "machines": groupings.trying_machines(since, MOST_GROUPS),
            "networks": groupings.trying_networks(since, MOST_GROUPS),
        }
        return {
            name: [
                {
                    **row._asdict(),
                    "first_at": local(row.first_at, self._zone),
                    "last_at": local(row.last_at, self._zone),
                }
                for row in rows
            ]
            for name, rows in groups.items()
        }

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(), self._zone)
