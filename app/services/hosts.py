"""The machines that serve one database: each reports itself, and all can be listed."""

import logging
import random
import threading
import time
from collections.abc import Sequence

from app.clock import utc_now
from app.domain.errors import UnavailableError
from app.domain.hosts import HostReport, faults
from app.domain.texts import Text
from app.functions.client import FunctionsClient
from app.settings import Settings
from app.storage import host_reports, inspection, schema
from app.storage.database import Database
from app.tokens.keys import KeyState
from app.tokens.signer import Signer
from app.version import read_version

BEAT_SECONDS = 10.0
logger = logging.getLogger(__name__)


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

    def faults(self, listed: Sequence[HostReport]) -> list[Text]:
        """Return in words where they differ, and which have one name.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        return faults(listed, self._database.with_connection(lambda: host_reports.sessions(self._database)))

    def forget(self, name: str) -> bool:
        """Forget a host; return whether there was one. One that serves reports itself again.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        return self._database.with_connection(lambda: host_reports.forget(name))


class Heartbeat:
    """Reports this host, from a thread of each worker.

    Args:
        database: Where to.
        settings: Of this host.
        signer: Has the signing keys as this process sees them.
    """

    def __init__(self, database: Database, settings: Settings, signer: Signer) -> None:
        self._database = database
        self._host = settings.host
        self._functions = FunctionsClient(settings.functions_socket, 0)
        self._signer = signer
        self._version = read_version()

    def start(self) -> None:
        """Start the thread, which ends with the process."""
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def beat(self) -> None:
        """Report this host once.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        facts = {
            "version": self._version,
            "schema": schema.expected_version(),
            "kid": self._kid(),
            "functions_sha256": self._functions_sha256(),
        }

        def report() -> None:
            before = utc_now()
            theirs = inspection.clock(self._database)
            ahead = before + (utc_now() - before) / 2 - theirs
            host_reports.write(self._host, facts | {"clock_offset_ms": round(ahead.total_seconds() * 1000)})

        self._database.with_connection(report)

    def _kid(self) -> str | None:
        try:
            keys = self._signer.public_keys(utc_now())
        except UnavailableError:
            return None
        return next((key.kid for key in keys if key.state is KeyState.CURRENT), None)

    def _functions_sha256(self) -> str | None:
        try:
            return self._functions.list().sha256 or None
        except UnavailableError:
            return None

    def try_to_beat(self) -> None:
        """Report this host once, whatever happens."""
        try:
            self.beat()
        except Exception:  # the thread must survive any error
            logger.warning("this host could not be reported; it is tried again soon", exc_info=True)
            self._database.close()

    def _run(self) -> None:
        while True:
            self.try_to_beat()
            # At random intervals, so that the workers do not report at the same time.
            time.sleep(BEAT_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311
