"""The machines that serve one database: each reports itself, and all can be listed."""

from app.clock import utc_now
from app.domain.errors import UnavailableError
from app.domain.hosts import HostReport
from app.functions.client import FunctionsClient
from app.services.signing_keys import SigningKeys
from app.settings import Settings
from app.storage import host_reports, inspection, schema
from app.storage.database import Database
from app.tokens.keyring import KeyRingError
from app.version import read_version


class Hosts:
    """The hosts that have reported themselves."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def listed(self) -> list[HostReport]:
        """Return them, by name.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        return self._database.with_connection(host_reports.listed)

    def forget(self, name: str) -> bool:
        """Forget a host; return whether there was one. One that serves reports itself again.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        return self._database.with_connection(lambda: host_reports.forget(name))


class Reporter:
    """Reports this host, as `settings` name it, to a database."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._host = settings.host
        self._functions = FunctionsClient(settings.functions_socket, 0)
        self._keys = SigningKeys(database, settings).store

    def report(self) -> None:
        """Report this host once.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        facts = {
            "version": read_version(),
            "schema": schema.expected_version(),
            "kid": self._kid(),
            "functions_sha256": self._functions_sha256(),
        }

        def write() -> None:
            before = utc_now()
            theirs = inspection.clock(self._database)
            ahead = before + (utc_now() - before) / 2 - theirs
            host_reports.write(self._host, facts | {"clock_offset_ms": round(ahead.total_seconds() * 1000)})

        self._database.with_connection(write)

    def _kid(self) -> str | None:
        try:
            return self._keys.load().current.kid
        except (KeyRingError, UnavailableError):
            return None

    def _functions_sha256(self) -> str | None:
        try:
            return self._functions.list().sha256 or None
        except UnavailableError:
            return None
