"""An asynchronous connection to the database, whose waiting lets the other greenlets of the hub run."""

import logging
import time
from typing import Any

import psycopg2
from gevent import Timeout
from gevent.socket import wait_read, wait_write
from psycopg2 import extensions

from app.storage.database import Database, execute_prepared

CONNECT_SECONDS = 3.0
STATEMENT_SECONDS = 15.0
"""More than the server's own limit: this one is for a server that has gone without a word."""
_SECONDS_BETWEEN_ATTEMPTS = 1.0
logger = logging.getLogger(__name__)


class HubConnection:
    """A connection of the hub's own, made at the first use and again after a failure; one caller at a time.

    Under psycopg2's process-wide wait callback, COPY is refused and libpq ignores `connect_timeout`: hence a
    connection of its own for what is frequent, and blocking ones in threads for the rest.

    Args:
        database: Where to, and what to prepare.
        settings: Settings of the session, which must not be those of other connections.
    """

    def __init__(self, database: Database, settings: dict[str, str]) -> None:
        self._database = database
        self._options = "".join(f" -c {name}={value}" for name, value in settings.items())
        self._connection: Any = None
        self._no_attempt_before = 0.0

    def run_prepared(self, name: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Execute a prepared statement, and once more on a new connection where the kept one turns out to be broken.

        Raises:
            psycopg2.Error: the database is away, or refuses.
            SchemaMismatchError: it has another schema now.
        """
        kept = self._connection is not None
        try:
            return self._run(name, *arguments)
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            if not kept or self._connection is not None:
                raise
        return self._run(name, *arguments)

    def _run(self, name: str, *arguments: object) -> list[tuple[Any, ...]]:
        try:
            if self._connection is None:
                self._connection = self._connect()
            with Timeout(STATEMENT_SECONDS, psycopg2.OperationalError("no answer in time")):
                rows: list[tuple[Any, ...]] = execute_prepared(self._connection, name, *arguments).fetchall()
        except BaseException:
            self._drop()
            raise
        return rows

    def _connect(self) -> Any:  # noqa: ANN401  # a psycopg2 connection
        if time.monotonic() < self._no_attempt_before:
            raise psycopg2.OperationalError("the last attempt to connect failed a moment ago")
        parameters = self._database.connect_params | {"connection_factory": _WaitingConnection}
        parameters["options"] += self._options
        self._no_attempt_before = time.monotonic() + _SECONDS_BETWEEN_ATTEMPTS
        with Timeout(CONNECT_SECONDS, psycopg2.OperationalError("no connection in time")):
            connection = psycopg2.connect(self._database.database, **parameters)
            self._connection = connection
            self._database.initialize(connection)
        self._no_attempt_before = 0.0
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _WaitingCursor(extensions.cursor):
    def execute(self, query: Any, arguments: Any = None) -> None:  # noqa: ANN401  # psycopg2's own
        super().execute(query, arguments)
        _wait(self.connection)


class _WaitingConnection(extensions.connection):
    """Has the interface of a blocking connection, as far as `Database.initialize` and a statement need it."""

    def __init__(self, dsn: str, **_more: Any) -> None:  # noqa: ANN401  # psycopg2's own
        super().__init__(dsn, async_=1)
        self.cursor_factory = _WaitingCursor
        _wait(self)


def _wait(connection: Any) -> None:  # noqa: ANN401  # a psycopg2 connection
    while (state := connection.poll()) != extensions.POLL_OK:
        (wait_read if state == extensions.POLL_READ else wait_write)(connection.fileno())
