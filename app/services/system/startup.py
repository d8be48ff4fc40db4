"""The checks before the first request is served, the first signing keys, and draining before the last one."""

import logging
import os
from pathlib import Path

from app.domain.errors import DatabaseUnavailableError, SchemaMismatchError, UnavailableError
from app.runtime.clock import Clock
from app.services.keys.signing_keys import SigningKeys
from app.storage import schema
from app.storage.database import Database
from app.storage.models import Card
from app.tokens import data_key_marks
from app.tokens.keyring import KeyRingError

logger = logging.getLogger(__name__)

MOVED = "moved-to"  # in the folder of the keys, which every container can read
_MAX_MARK_BYTES = 1024


class MovedAwayError(Exception):
    """The service has moved to another server, and must not run here."""


def check_home(keys_dir: Path) -> None:
    """Refuse to start, by MovedAwayError, where the service has moved away or arrives: two copies would diverge."""
    try:
        at, _, place = _mark(keys_dir / MOVED).strip().partition(" ")
    except FileNotFoundError:
        return
    except OSError as error:
        raise MovedAwayError(
            f"无法读取 {keys_dir / MOVED}（{error.strerror}），不能确定服务是否已搬迁，因此不启动："
            "data/keys 的属主须为 .env 中的 KADUN_UID / "
            f"Cannot read {keys_dir / MOVED} ({error.strerror}), so whether the service has moved is unknown "
            "and it does not start: the owner of data/keys must be KADUN_UID in .env"
        ) from error
    if place.startswith("from "):
        raise MovedAwayError(
            f"此处是未完成的搬迁（{place}）：在原服务器再次执行 scripts/migrate-to.sh，或在那里 --resume-here / "
            f"This is an unfinished copy {place} and does not start: "
            "run scripts/migrate-to.sh there again to go on, or with --resume-here to go back"
        )
    raise MovedAwayError(
        f"服务已搬迁到 {place}（{at}），此处不再启动。如搬迁中断，再次执行 scripts/migrate-to.sh；"
        "要恢复本机：scripts/migrate-to.sh --resume-here / "
        f"The service moved to {place} at {at} and does not start here. If the move was cut off, "
        "run the same scripts/migrate-to.sh again; to serve here again: scripts/migrate-to.sh --resume-here"
    )


def _mark(file: Path) -> str:
    """Read the mark; a service that was taken over may have put a named pipe there, which would be waited for."""
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as mark:
        return mark.read(_MAX_MARK_BYTES).decode("utf-8", "replace")


def check_schema(database: Database) -> None:
    """Check that the database answers; raise SchemaMismatchError if it has another schema than this program's."""
    database.with_connection(lambda: schema.check_version(database.connection()))


def prepare(database: Database, keys: SigningKeys, clock: Clock) -> None:
    """Check the schema, and create the signing keys at the first start.

    A service whose database is away starts and answers 503. No connection stays open, because the workers are forked
    afterwards. Raise MovedAwayError if the service has moved, SchemaMismatchError if the database has another schema,
    KeyRingError if the keys cannot be created, are missing although clients depend on them, or were moved.
    """
    check_home(keys.folder)
    try:
        check_schema(database)
        keys.check_place()
        if not keys.store.exists():
            _make_keys(keys, clock)
    except SchemaMismatchError:
        raise
    except DatabaseUnavailableError as error:
        if not keys.needs_database and not keys.store.exists():
            raise KeyRingError(
                f"the first start makes the signing keys and needs the database, which is away: {error}"
            ) from error
        logger.warning("starting without the database", extra={"reason": str(error)})
    finally:
        database.disconnect()


def mark_data_key(keys_dir: Path, kernal_data_key: str) -> None:
    """Mark KERNAL_DATA_KEY as this installation's, so that a wrong one is recognised later; never stop the service."""
    try:
        if not data_key_marks.keep(keys_dir, kernal_data_key):
            logger.error("KERNAL_DATA_KEY is not the one in use before: see cardctl doctor")
    except KeyRingError as error:
        logger.warning("KERNAL_DATA_KEY could not be marked", extra={"reason": str(error)})


def _make_keys(keys: SigningKeys, clock: Clock) -> None:
    # Clients in the field trust only the old keys: new ones would lock every customer out.
    if Card.select().where(Card.is_activated).exists():
        place = "the database" if keys.needs_database else keys.folder
        raise KeyRingError(
            f"there are no signing keys in {place}, but cards are in use whose clients trust the old ones: "
            "put your copy of data/keys back (or, if they are lost for good, run `scripts/cardctl key create` "
            "and give every customer a new release)"
        )
    ring = keys.create(clock)
    logger.info("signing keys made", extra={"kid": ring.current.kid})


DRAINING = "draining"  # in the folder of the keys: each process of the service sees it


def begin_draining(keys_dir: Path) -> None:
    """Let the service say that it is not ready, until it is started again or `end_draining` is called."""
    keys_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # there is none yet where the keys are in the database
    (keys_dir / DRAINING).touch(mode=0o600)


def end_draining(keys_dir: Path) -> None:
    """Let the service be ready again."""
    (keys_dir / DRAINING).unlink(missing_ok=True)


def require_serving(keys_dir: Path) -> None:
    """Check that the service is not draining; raise UnavailableError if it is."""
    if (keys_dir / DRAINING).exists():
        raise UnavailableError("draining")
