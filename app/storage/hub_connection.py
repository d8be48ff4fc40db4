"""An asynchronous connection to the database, whose waiting lets the other greenlets of the hub run."""

import select
from typing import Any

import psycopg2
from gevent import Timeout
from gevent.socket import wait_read, wait_write
from psycopg2 import extensions

from app import hub
from app.storage.database import Database, execute_prepared

ANSWER_SECONDS = 15.0
"""More than the server's own limit for a statement: this one is for a server that has gone without a word."""


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

    def run_prepared(self, name: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Execute a prepared statement, and once more on a new connection where the kept one turns out to be broken.

        Raises:
            psycopg2.Error, DatabaseUnavailableError: the database is away, or refuses.
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
                self._connection = hub.in_thread(self._connect)  # a name's look-up blocks
            with Timeout(ANSWER_SECONDS, psycopg2.OperationalError("no answer in time")):
                rows: list[tuple[Any, ...]] = execute_prepared(self._connection, name, *arguments).fetchall()
        except BaseException as error:
            # An error that the server reports (it has a code) leaves the connection as it was.
            if self._connection is not None and getattr(error, "pgcode", None) is None:
                self._connection.close()
                self._connection = None
            raise
        return rows

    def _connect(self) -> Any:  # noqa: ANN401  # a psycopg2 connection
        # An asynchronous connection attempt would stay with the first of several hosts if that one is silent.
        primary = self._database.with_connection(self._database.primary)
        options = self._database.connect_params["options"] + self._options
        connection = self._database.open(**primary._asdict(), options=options, connection_factory=_Connection)
        try:
            self._database.initialize(connection)
        except BaseException:
            connection.close()
            raise
        return connection


class _Cursor(extensions.cursor):
    def execute(self, query: Any, arguments: Any = None) -> None:  # noqa: ANN401  # psycopg2's own
        super().execute(query, arguments)
        _wait(self.connection)


class _Connection(extensions.connection):
    """Has the interface of a blocking connection, as far as `Database.initialize` and a statement need it."""

    def __init__(self, dsn: str, **_more: Any) -> None:  # noqa: ANN401  # psycopg2's own
        super().__init__(dsn, async_=1)
        self.cursor_factory = _Cursor
        _wait(self)


def _wait(connection: Any) -> None:  # noqa: ANN401  # a psycopg2 connection
    while (state := connection.poll()) != extensions.POLL_OK:
        is_reading = state == extensions.POLL_READ
        if hub.is_here():
            (wait_read if is_reading else wait_write)(connection.fileno())
            continue
        waiting = select.poll()
        waiting.register(connection.fileno(), select.POLLIN if is_reading else select.POLLOUT)
        if not waiting.poll(ANSWER_SECONDS * 1000):
            raise psycopg2.OperationalError("no answer in time")
