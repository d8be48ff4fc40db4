"""The one row of counted figures, and who counts them anew."""

from datetime import datetime
from typing import Any

from app.storage.database import Database
from app.storage.models import Figures

LOCK = 0x6669677572  # "figur": an advisory lock of our own, so that one process counts
_SIZE = "SELECT pg_relation_size('card') + pg_relation_size('event') + pg_relation_size('usage')"


def read() -> Figures | None:
    """Return the figures as counted last."""
    found: Figures | None = Figures.select().first()
    return found


def write(counted_at: datetime, seconds: float, document: dict[str, Any]) -> None:
    """Put these figures in the place of the last; `seconds` is how long they took."""
    Figures.insert(counted_at=counted_at, seconds=seconds, document=document).on_conflict(
        conflict_target=[Figures.id], preserve=[Figures.counted_at, Figures.seconds, Figures.document]
    ).execute()


def counted_bytes(database: Database) -> int:
    """Return how large the tables are that are counted."""
    size: int = database.execute_sql(_SIZE).fetchone()[0]
    return size


def begin_alone(database: Database) -> bool:
    """Take the right to count for this connection, until it closes, and no limit on its statements' time.

    False when another connection has it.
    """
    database.execute_sql("SET statement_timeout = 0")
    taken: bool = database.execute_sql("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone()[0]
    return taken
