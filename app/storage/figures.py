"""The one row of figures."""

from datetime import datetime
from typing import Any

from app.storage.database import Database
from app.storage.models import Figures

_SIZE = "SELECT " + " + ".join(f"pg_relation_size('{name}')" for name in ("card", "event", "usage", "daily_count"))


def read() -> Figures | None:
    """Return the latest figures, None before the first."""
    found: Figures | None = Figures.select().first()
    return found


def want() -> None:
    """Note that somebody wants newer figures."""
    Figures.update(is_wanted=True).where(~Figures.is_wanted).execute()


def write(counted_at: datetime, seconds: float, document: dict[str, Any]) -> None:
    """Replace the figures; `seconds` is how long counting took."""
    row = {
        Figures.counted_at: counted_at,
        Figures.seconds: seconds,
        Figures.document: document,
        Figures.is_wanted: False,
    }
    Figures.insert(row).on_conflict(conflict_target=[Figures.id], update=row).execute()


def counted_bytes(database: Database) -> int:
    """Return the size of the tables that are counted."""
    size: int = database.execute_sql(_SIZE).fetchone()[0]
    return size
