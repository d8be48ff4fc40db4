"""The one row of figures, and the lock for counting them."""

from datetime import datetime
from typing import Any

from app.storage.database import Database
from app.storage.models import Figures

LOCK = 0x6669677572  # "figur": an advisory lock, so that one process counts
_SIZE = "SELECT " + " + ".join(f"pg_relation_size('{name}')" for name in ("card", "event", "usage", "daily_count"))


def read() -> Figures | None:
    """Return the latest figures, None before the first."""
    found: Figures | None = Figures.select().first()
    return found


def write(counted_at: datetime, seconds: float, document: dict[str, Any]) -> None:
    """Replace the figures; `seconds` is how long counting took."""
    Figures.insert(counted_at=counted_at, seconds=seconds, document=document).on_conflict(
        conflict_target=[Figures.id], preserve=[Figures.counted_at, Figures.seconds, Figures.document]
    ).execute()


def counted_bytes(database: Database) -> int:
    """Return the size of the tables that are counted."""
    size: int = database.execute_sql(_SIZE).fetchone()[0]
    return size


def begin_alone(database: Database) -> bool:
    """Take the lock for counting, which this connection holds until it closes, and lift its limit on statements' time.

    Return False if another connection has the lock.
    """
    database.execute_sql("SET statement_timeout = 0")
    taken: bool = database.execute_sql("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone()[0]
    return taken
