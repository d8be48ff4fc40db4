"""Rotating the signing keys."""

from pathlib import Path

from app.clock import Clock
from app.domain.codes import EventKind
from app.storage import journal
from app.storage.database import Database
from app.tokens import keyring
from app.tokens.keys import KeyRing


def rotate(  # noqa: PLR0913  # keyword-only beyond the first three
    database: Database, keys_dir: Path, actor: str, *, issuer: str, clock: Clock, force: bool
) -> KeyRing:
    """Put the next key to work and journal it; return the key ring.

    `issuer` is the server's name (`iss`). `force` rotates although the last rotation was less than 15 minutes ago.

    Raises:
        KeyRingError: there are no keys, they cannot be rotated, or they were rotated less than 15 minutes ago.
        DatabaseUnavailableError: the database is away.
    """
    database.with_connection(lambda: None)  # without the journal there is no rotation
    ring = keyring.rotate(keys_dir, clock(), issuer, force=force)
    entry = journal.Entry(at=clock(), kind=EventKind.KEY_ROTATED, actor=actor, details={"kid": ring.current.kid})
    database.with_connection(lambda: journal.append([entry]))
    return ring
