"""The key ring of several machines, in the database, sealed to an age identity that each of them has."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from peewee import Field

from app.services.polled import Polled
from app.storage.database import Database
from app.storage.models import SealedKeyRing
from app.tokens import sealing
from app.tokens.keyring import KeyRingError, KeyStore, decoded, encoded
from app.tokens.keys import KeyRing

_IN_USE = SealedKeyRing.replaced_at.is_null()


class KeyDatabase(KeyStore):
    """The key ring in a database; `identity`, an age identity, opens it (KADUN_KEYS_IDENTITY)."""

    def __init__(self, database: Database, identity: str | None) -> None:
        self._database = database
        self._identity = identity
        self._kids = Polled(database, lambda: tuple(self._row(SealedKeyRing.kids).kids))

    def version(self) -> tuple[str, ...]:
        """Return the IDs of the keys, as they were less than a second ago.

        Raise KeyRingError if there is no ring, DatabaseUnavailableError if the database was never reached.
        """
        return self._kids.get()

    def exists(self) -> bool:
        """Tell whether there is a key ring, intact or not."""
        return self.in_use() is not None

    def in_use(self, *columns: Field) -> SealedKeyRing | None:
        """Return the row of the ring that is in use, or only these columns of it; None if there is none."""
        row: SealedKeyRing | None = SealedKeyRing.select(*columns).where(_IN_USE).first()
        return row

    def load(self) -> KeyRing:
        """Read the key ring; raise KeyRingError if it is missing or damaged, or this machine's identity is another."""
        row, identity = self._row(), self._own_identity()
        try:
            return decoded(sealing.unseal_text(row.sealed, identity))
        except sealing.NotSealedToError as error:
            raise KeyRingError(
                "数据库中的签名密钥无法用 KADUN_KEYS_IDENTITY 打开：请放回 secrets/keys_identity / the signing keys in "
                "the database do not open with KADUN_KEYS_IDENTITY: put your copy of secrets/keys_identity back"
            ) from error
        except Exception as error:
            raise KeyRingError(
                "the signing keys in the database are damaged: put a copy back with `scripts/cardctl key restore`"
            ) from error

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep all others from changing the ring until the transaction ends."""
        with self._database.transact():
            # The table, because there may be no row yet; all others may still read it.
            self._database.execute_sql("LOCK TABLE key_ring IN SHARE ROW EXCLUSIVE MODE")
            yield

    def write(self, ring: KeyRing) -> None:
        """Replace the ring."""
        sealed = sealing.seal_text(encoded(ring), self._own_identity())
        kids = [key.kid for key in ring.keys]
        if not SealedKeyRing.update(kids=kids, sealed=sealed, moved_at=None).where(_IN_USE).execute():
            SealedKeyRing.insert(kids=kids, sealed=sealed).execute()

    def put_aside(self, now: datetime) -> None:
        """Keep what there is in a row of its own."""
        SealedKeyRing.update(replaced_at=now).where(_IN_USE).execute()

    def note_move(self, moved_at: datetime | None) -> None:
        """Note since when the ring is in use in a folder; None for not at all."""
        SealedKeyRing.update(moved_at=moved_at).where(_IN_USE).execute()

    def _own_identity(self) -> str:
        if self._identity is None:
            raise KeyRingError(
                "未设置 KADUN_KEYS_IDENTITY：数据库中的签名密钥以它加密 / KADUN_KEYS_IDENTITY is not set: the signing "
                "keys in the database are sealed to it"
            )
        return self._identity

    def _row(self, *columns: Field) -> SealedKeyRing:
        row = self.in_use(*columns)
        if row is None:
            raise KeyRingError("there are no signing keys in the database")
        return row
