"""What stricter terms would have refused lately: a preview for the vendor who considers them."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from app.storage import terms_preview
from app.storage.database import Database
from app.storage.terms_preview import Previews

DAYS = 7
MAX_COUNTS = terms_preview.MAX_COUNTS


def preview(database: Database, now: datetime, zone: ZoneInfo, limits: Iterable[int]) -> Previews:
    """Return what `binding` and each of these `changes_per_day` would have refused in `DAYS` days, today the last.

    Args:
        database: The database.
        now: The time, aware.
        zone: The vendor's, in which changes are counted by days.
        limits: Values of the term `changes_per_day`.
    """
    since = now.astimezone(zone).date() - timedelta(days=DAYS - 1)
    return database.with_connection(lambda: terms_preview.preview(since, sorted(set(limits))))
