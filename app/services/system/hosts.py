"""The machines that serve one database: each reports itself (table `host`), and all can be listed."""

from contextlib import suppress
from datetime import timedelta

from peewee import fn

from app.domain.errors import UnavailableError
from app.domain.system.hosts import HostReport
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


def listed(database: Database) -> list[HostReport]:
    """Return the hosts that have reported themselves, by name."""
    unseen = fn.date_part("epoch", _NOW - Host.seen_at)
    rows = Host.select(Host, unseen.alias("unseen_seconds")).order_by(Host.name)
    return list(rows.objects(HostReport).execute(database))


def forget(database: Database, name: str) -> bool:
    """Forget a host; return whether there was one. One that serves reports itself again."""
    return bool(Host.delete().where(Host.name == name).execute(database))


class Reporter:
    """Reports this host, as `settings` name it, to a database."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._host = settings.host
        self._functions = FunctionsClient(settings.functions_socket, 0)
        self._keys = SigningKeys(database, settings).store

    def report(self) -> None:
        """Report this host in place of its last report, and forget hosts that have been away for a day."""
        kid = functions_sha256 = None
        with suppress(KeyRingError, UnavailableError):
            kid = self._keys.load().current.kid
        with suppress(UnavailableError):
            functions_sha256 = self._functions.list().sha256 or None
        facts = {
            Host.version: read_version(),
            Host.schema: schema.expected_version(),
            Host.kid: kid,
            Host.functions_sha256: functions_sha256,
        }
        before = utc_now()
        (theirs,) = self._database.execute_sql("SELECT clock_timestamp()").fetchone()
        ahead = before + (utc_now() - before) / 2 - theirs
        row = facts | {Host.clock_offset_ms: round(ahead.total_seconds() * 1000), Host.seen_at: _NOW}
        Host.insert({Host.name: self._host, **row}).on_conflict(conflict_target=[Host.name], update=row).execute()
        Host.delete().where(Host.seen_at < _NOW - _FORGOTTEN_AFTER).execute()
