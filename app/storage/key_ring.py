"""The key ring in a database, sealed; what opens it is elsewhere.

The database is named: when a backup is checked, the models' database is another than the one with the keys.
"""

from datetime import datetime

from app.storage.database import Database
from app.storage.models import SealedKeyRing

_IN_USE = SealedKeyRing.replaced_at.is_null()


def in_use(database: Database) -> SealedKeyRing | None:
    """Return the ring that is in use, None if there is none."""
    found: SealedKeyRing | None = SealedKeyRing.select().where(_IN_USE).bind(database).first()
    return found


def kids(database: Database) -> list[str] | None:
    """Return the IDs of the keys of the ring that is in use, None if there is none."""
    found: list[str] | None = SealedKeyRing.select(SealedKeyRing.kids).where(_IN_USE).bind(database).scalar()
    return found


def lock(database: Database) -> None:
    """Keep all others from changing the ring until the transaction ends, even where there is none; they may read it."""
    database.execute_sql("LOCK TABLE key_ring IN SHARE ROW EXCLUSIVE MODE")


def write(database: Database, kids: list[str], sealed: str) -> None:
    """Write the ring in use, in place of the one that there is."""
    if not SealedKeyRing.update(kids=kids, sealed=sealed, moved_at=None).where(_IN_USE).bind(database).execute():
        SealedKeyRing.insert(kids=kids, sealed=sealed).bind(database).execute()


def put_aside(database: Database, now: datetime) -> None:
    """Keep the ring in use under the time at which it is replaced."""
    SealedKeyRing.update(replaced_at=now).where(_IN_USE).bind(database).execute()


def note_move(database: Database, moved_at: datetime | None) -> None:
    """Note since when the ring is in use in a folder; None for not at all."""
    SealedKeyRing.update(moved_at=moved_at).where(_IN_USE).bind(database).execute()
