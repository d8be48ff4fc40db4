"""The machines that serve one database: each reports itself (table `host`), and all can be listed."""

from contextlib import suppress
from datetime import timedelta

from peewee import Field, fn

from app.domain.errors import UnavailableError
from app.functions.client import FunctionsClient
from app.runtime.clock import utc_now
from app.runtime.settings import Settings
from app.runtime.version import read_version
from app.services.keys.signing_keys import SigningKeys
from app.storage import schema
from app.storage.database import Database
from app.storage.models import Host
from app.tokens.keyring import KeyRingError

_FORGOTTEN_AFTER = timedelta(days=1)
_NOW = fn.clock_timestamp()  # the database's time, which all machines share


def listed(database: Database) -> list[Host]:
    """Return the hosts that have reported themselves, by name, each with its `unseen_seconds`."""
    unseen = fn.date_part("epoch", _NOW - Host.seen_at)
    return list(Host.select(Host, unseen.alias("unseen_seconds")).order_by(Host.name).execute(database))


def forget(database: Database, name: str) -> bool:
    """Forget a host; return whether there was one. One that serves reports itself again."""
    return bool(Host.delete().where(Host.name == name).execute(database))


def report(database: Database, settings: Settings) -> None:
    """Report this host, as `settings` name it, in place of its last report; forget hosts that are away for a day."""
    row: dict[Field, object] = {Host.kid: None, Host.functions_sha256: None, Host.seen_at: _NOW}
    row |= {Host.version: read_version(), Host.schema: schema.expected_version()}
    with suppress(KeyRingError, UnavailableError):
        row[Host.kid] = SigningKeys(database, settings).store.load().current.kid
    with suppress(UnavailableError):
        row[Host.functions_sha256] = FunctionsClient(settings.functions_socket, 0).list().sha256 or None
    before = utc_now()
    (theirs,) = database.execute_sql("SELECT clock_timestamp()").fetchone()
    ahead = before + (utc_now() - before) / 2 - theirs
    row[Host.clock_offset_ms] = round(ahead.total_seconds() * 1000)
    Host.insert({Host.name: settings.host, **row}).on_conflict(conflict_target=[Host.name], update=row).execute()
    Host.delete().where(Host.seen_at < _NOW - _FORGOTTEN_AFTER).execute()
