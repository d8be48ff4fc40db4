"""The signing keys: where they are (a folder, or the database of several machines), moving them, and rotating them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from peewee import Field

from app.domain.codes import EventKind
from app.runtime.clock import Clock
from app.runtime.settings import DATABASE, FOLDER, Settings
from app.services.polled import Polled
from app.storage import journal
from app.storage.database import Database
from app.storage.models import SealedKeyRing
from app.tokens import sealing
from app.tokens.key_folder import KeyFolder
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
        """Return the IDs of the keys, as they were less than a second ago."""
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


logger = logging.getLogger(__name__)


class SigningKeys:
    """The signing keys of an installation, in the store that KADUN_KEYS chooses.

    A move copies them into the other store and notes in the database that they are there now. Until each service has
    the setting and is restarted it goes on with its copy, which the note keeps from being rotated.

    `store` is the one in use; `needs_database` tells that nothing can be signed before the database was reached.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._chosen = settings.keys
        self.folder = settings.keys_dir
        self._in_folder = KeyFolder(settings.keys_dir)
        self._in_database = KeyDatabase(database, settings.keys_identity)
        self.needs_database = settings.keys == DATABASE
        self.store = self._in_database if self.needs_database else self._in_folder

    def create(self, clock: Clock) -> KeyRing:
        """Make signing keys, or return those that there are; KeyRingError if there are some elsewhere."""
        self._require_here()
        return self.store.create(clock())

    def rotate(self, actor: str, clock: Clock, *, force: bool) -> KeyRing:
        """Put the next key to work and journal it as the actor's; return the key ring.

        Raise KeyRingError if there are no keys, they were moved, or were rotated less than 15 minutes ago (not with
        `force`); DatabaseUnavailableError if the database is away: without the journal there is no rotation.
        """
        with self._in_database.changing():  # nobody else rotates or moves the keys, wherever they are
            self._require_here()
            # Journalled first: a folder cannot take its keys back where that fails.
            kid = {"kid": self.store.load().keys[-1].kid}
            journal.append([journal.Entry(at=clock(), kind=EventKind.KEY_ROTATED, actor=actor, details=kid)])
            return self.store.rotate(clock(), force=force)

    def move(self, target: str, actor: str, clock: Clock) -> tuple[KeyRing, bool]:
        """Copy the keys into a store, `FOLDER` or `DATABASE`, and note that they are there from now on.

        Return the ring in the target, and whether it came from the other store: a newer one in the target stays. Raise
        KeyRingError if the other store has no readable keys, or the target cannot be written.
        """
        here, there = self._in_folder, self._in_database
        source, copy = (here, there) if target == DATABASE else (there, here)
        with self._in_database.changing():
            is_copied = copy.restore(source.load(), clock())
            ring = copy.load()
            self._in_database.note_move(None if target == DATABASE else clock())
            details = {"store": target, "kid": ring.current.kid}
            journal.append([journal.Entry(at=clock(), kind=EventKind.KEYS_MOVED, actor=actor, details=details)])
        return ring, is_copied

    def check_place(self) -> None:
        """Refuse keys that were moved and have changed since, by a KeyRingError; warn of an unfinished move."""
        elsewhere = self._moved_to()
        if elsewhere is None:
            return
        place, kids = elsewhere
        if not self._in_folder.exists() or [key.kid for key in self._in_folder.load().keys] != kids:
            raise _moved(place)
        logger.warning("the signing keys were moved: change the setting", extra={"keys": place})

    def moved_to(self) -> str | None:
        """Return the store to which the keys were moved while KADUN_KEYS chooses the other, else None."""
        elsewhere = self._moved_to()
        return elsewhere and elsewhere[0]

    def _moved_to(self) -> tuple[str, list[str]] | None:
        row = self._in_database.in_use()
        if row is None:
            return None
        place = DATABASE if row.moved_at is None else FOLDER
        return None if place == self._chosen else (place, list(row.kids))

    def _require_here(self) -> None:
        place = self.moved_to()
        if place is not None:
            raise _moved(place)


def _moved(place: str) -> KeyRingError:
    return KeyRingError(
        f"签名密钥已移走：请在 .env 中设置 KADUN_KEYS={place}，再 docker compose up -d / the signing keys were "
        f"moved: set KADUN_KEYS={place} in .env and run docker compose up -d"
    )
