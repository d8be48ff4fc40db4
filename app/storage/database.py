"""Database connections: a few for each process, kept open, with prepared statements, replaced when broken."""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any, TypeVar

import peewee
import psycopg2

from app.domain.errors import ConflictError, DatabaseUnavailableError
from app.storage import models
from app.storage.hosts import ANSWERED, DatabaseHost, Hosts

_SECONDS_BETWEEN_ATTEMPTS = 1.0
_BROKEN_SECONDS = 60.0
"""Sort key of a host whose connection broke, so that the other hosts are tried first."""
logger = logging.getLogger(__name__)
Result = TypeVar("Result")

# Limits for every statement, because gunicorn does not end a hung request of a thread. A managed database may
# acknowledge commits before they are on the disk, unless a session asks for that. The session of a machine that is gone
# without a word ends, with its locks, within half a minute.
_SESSION_OPTIONS = (
    "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=30s -c timezone=UTC"
    " -c synchronous_commit=on"
    " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)
# SQLSTATE: 40001 and 40P01 ask for another attempt, 55P03 and 57014 are the limits above, 53 and 57P mean a server out
# of resources or shutting down, 08 a broken connection, 25006 a read-only standby.
_TRY_AGAIN = ("40001", "40P01")
_TOO_LONG = ("55P03", "57014")
_AWAY = ("08", "53", "57P", "25006")


class _Here(threading.local):
    """Whether the caller's thread, or greenlet, holds a place."""

    holds = False


class Database(peewee.PostgresqlDatabase):
    """A PostgreSQL database whose connections carry prepared statements.

    Args:
        url: `postgresql://…`; several hosts and any libpq parameter are allowed. The host that accepts writes is used.
        prepared: Statements to prepare on each new connection, by name; parameters are written `$1`.
        on_connect: Called with each new connection; refuses the database by raising.
        bulk: True for long operator commands, whose statements have no time limit.
        connections: How many may be in use at once.
    """

    def __init__(
        self,
        url: str,
        *,
        prepared: Mapping[str, str] | None = None,
        on_connect: Callable[[Any], None] | None = None,
        bulk: bool = False,
        connections: int = 8,
    ) -> None:
        self._prepared = dict(prepared or {})
        self._on_connect = on_connect
        self._no_attempt_before = 0.0
        self._probing = threading.Lock()
        self._places = threading.BoundedSemaphore(connections)
        self._kept: list[Any] = []
        self._here = _Here()
        self.hosts = Hosts(url)
        options = _SESSION_OPTIONS.replace("=10s", "=0").replace("=5s", "=30s") if bulk else _SESSION_OPTIONS
        super().__init__(
            url,
            options=options,
            target_session_attrs="read-write",  # never a standby, or a primary that has been demoted to one
            connect_timeout=3,
            # A server that is gone without a word is noticed in eight seconds, before a standby takes its place.
            keepalives_idle=5,
            keepalives_interval=3,
            keepalives_count=3,
            tcp_user_timeout=8_000,
            application_name="kadun",
        )
        # Under Peewee's own lock one thread would connect after the other; what it guards is each thread's own here.
        self._lock = contextlib.nullcontext()

    def _connect(self) -> Any:  # noqa: ANN401  # a psycopg2 connection; peewee is untyped
        # While the server is away, one thread tries once a second, and the others fail at once instead of waiting for
        # its time-outs.
        if not self._no_attempt_before:
            return self._attempt()
        if time.monotonic() < self._no_attempt_before or not self._probing.acquire(blocking=False):
            raise psycopg2.OperationalError("the last attempt to connect failed a moment ago")
        try:
            return self._attempt()
        finally:
            self._probing.release()

    def _attempt(self) -> Any:  # noqa: ANN401  # as above
        try:
            connection = self._open_primary()
        except psycopg2.OperationalError:
            self._no_attempt_before = time.monotonic() + _SECONDS_BETWEEN_ATTEMPTS
            raise
        self._no_attempt_before = 0.0
        connection.autocommit = True  # as Peewee has it
        return connection

    def _open_primary(self) -> Any:  # noqa: ANN401  # as above
        # One host after the other: libpq would stay with one that hangs up, and wait for a silent one each time.
        hosts = self.hosts.all()
        if not hosts:
            return self.open()
        reasons = []
        for host in hosts:
            began = time.monotonic()
            try:
                connection = self._open_at(host)
            except psycopg2.OperationalError as error:
                self.hosts.note(host, time.monotonic() - began)
                reasons.append(str(error).strip())
            else:
                self.hosts.note(host, ANSWERED)
                return connection
        raise psycopg2.OperationalError("\n".join(reasons))

    def open(self, **parameters: object) -> Any:  # noqa: ANN401  # as above
        """Open a connection apart from those that are kept, with some of libpq's parameters changed."""
        return psycopg2.connect(self.database, **self.connect_params | parameters)

    def _open_at(self, host: DatabaseHost) -> Any:  # noqa: ANN401  # as above
        """Open a connection at the first address of a host that lets us."""
        reasons = []
        for address in _addresses(host):
            try:
                return self.open(**address)
            except psycopg2.OperationalError as error:
                reasons.append(str(error).strip())
        raise psycopg2.OperationalError("\n".join(reasons))

    def open_apart(self, settings: Mapping[str, str]) -> Any:  # noqa: ANN401  # as above
        """Open a connection of the caller's own, whose session has more settings, with the statements prepared."""
        connection = self._connect()
        try:
            with connection.cursor() as cursor:
                for name, value in settings.items():
                    cursor.execute(f"SET {name} = %s", (value,))
            self.initialize(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _initialize_connection(self, conn: Any) -> None:  # noqa: ANN401  # as above
        try:
            self.initialize(conn)
        except BaseException:
            # Peewee already regards the connection as open.
            conn.close()
            self._state.reset()
            raise

    def initialize(self, connection: Any) -> None:  # noqa: ANN401  # as above
        """Check the database of a new connection, and prepare its statements."""
        if self._on_connect is not None:
            self._on_connect(connection)
        with connection.cursor() as cursor:
            for name, statement in self._prepared.items():
                cursor.execute(f"PREPARE {name} AS {statement}")

    def allow_idle(self, seconds: int) -> None:
        """Let the transaction under way be idle for so long, where its work is not the database's."""
        self.execute_sql("SET LOCAL idle_in_transaction_session_timeout = %s", (f"{seconds}s",))

    def execute_sql(self, sql: Any, params: Any = None) -> Any:  # noqa: ANN401  # as above
        """Execute a statement; outside a transaction as `with_connection` runs it."""
        return self.with_connection(partial(super().execute_sql, sql, params))

    def run_prepared(self, name: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Execute a prepared statement in one round trip, as `with_connection` runs it, and return its rows."""
        return self.with_connection(lambda: execute_prepared(self.connection(), name, *arguments))

    def with_connection(self, work: Callable[[], Result]) -> Result:
        """Run `work`, and repeat it on a new connection if the kept connection turns out to be broken.

        Repeating is safe for work that reads its facts again: it finds an earlier commit done. Work that would add
        up (extending a card) runs within `transact`. Inside a transaction `work` runs as part of it, and the code that
        began the transaction handles errors and may repeat the whole.

        Raise DatabaseUnavailableError if the database cannot be reached or does not answer in time, ConflictError if
        the server asks for another attempt (deadlock, serialisation failure).
        """
        if self.in_transaction():
            return work()
        with self.hold():
            kept = not self.is_closed()
            try:
                return self._run(work)
            except DatabaseUnavailableError:
                broken = self.is_closed()  # set by `_translating`
                if not (kept and broken):
                    raise
            return self._run(work)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Have one connection for the whole block, the caller's alone; a place among so many for each process."""
        if self._here.holds or not self.is_closed():
            yield
            return
        with self._places:
            self._here.holds = True
            if self._kept:
                self._state.set_connection(self._kept.pop())
            try:
                yield
            finally:
                self._here.holds = False
                if not self.is_closed():
                    if not self._state.conn.closed:
                        self._kept.append(self._state.conn)
                    self._state.reset()

    def disconnect(self) -> None:
        """Close all connections that are kept for later."""
        self.close()
        while self._kept:
            self._kept.pop().close()

    @contextlib.contextmanager
    def transact(self) -> Iterator[None]:
        """Run the block in one transaction, once.

        Where the kept connection is broken, the transaction begins on a new one. Within another transaction the block
        is a part of it, undone by itself if it fails; the code that began the transaction handles errors. It raises
        as `with_connection`; after a broken commit it may be done or not.
        """
        errors = contextlib.nullcontext() if self.in_transaction() else self._translating()
        with self.hold(), errors, contextlib.ExitStack() as transaction:
            self.with_connection(lambda: transaction.enter_context(self.atomic()))
            yield

    def _run(self, work: Callable[[], Result]) -> Result:
        with self._translating():
            if self.is_closed():
                self.connect()
            return work()

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except (peewee.IntegrityError, psycopg2.IntegrityError):
            raise
        except (peewee.DatabaseError, peewee.InterfaceError, psycopg2.Error) as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> Exception:
        cause = (
            getattr(error, "orig", None) or error.__context__ if isinstance(error, peewee.PeeweeException) else error
        )
        state = getattr(cause, "pgcode", None)
        if state is not None and state.startswith(_TRY_AGAIN):
            return ConflictError(state)
        reason = _reason(str(cause))
        if state in _TOO_LONG:  # the connection is as before, and the statement not to be repeated
            logger.warning("database slow", extra={"sqlstate": state, "reason": reason})
            return DatabaseUnavailableError(reason)
        connection_lost = state is None and isinstance(cause, (psycopg2.OperationalError, psycopg2.InterfaceError))
        if not connection_lost and not (state or "").startswith(_AWAY):
            return error
        self._drop_connection()
        logger.warning("database away", extra={"sqlstate": state, "reason": reason})
        return DatabaseUnavailableError(reason)

    def _drop_connection(self) -> None:
        if not self.is_closed():
            info = self.connection().info
            self.hosts.note(DatabaseHost(info.host, info.port), _BROKEN_SECONDS)
        try:
            self.close()
        except (peewee.PeeweeException, psycopg2.Error):
            self._state.reset()


def _addresses(host: DatabaseHost) -> list[dict[str, object]]:
    """Return libpq's parameters for each address of a host: looking them up by itself, it holds up all greenlets."""
    if host.host.startswith("/"):
        return [host._asdict()]
    try:
        found = socket.getaddrinfo(host.host, host.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise psycopg2.OperationalError(f"connection to server {host.host}: {error.strerror}") from error
    return [host._asdict() | {"hostaddr": address} for address in dict.fromkeys(each[4][0] for each in found)]


def execute_prepared(connection: Any, name: str, *arguments: object) -> list[tuple[Any, ...]]:  # noqa: ANN401  # psycopg2's
    """Execute a prepared statement in one round trip; return its rows."""
    cursor = connection.cursor()
    cursor.execute(_execute(name, len(arguments)), arguments)
    return cursor.fetchall() if cursor.description else []


@cache
def _execute(name: str, arguments: int) -> str:
    return f"EXECUTE {name}({','.join(['%s'] * arguments)})"


def _reason(message: str) -> str:
    # With several hosts each has a line, and any of them may name the cause.
    lines = message.strip().split("\n")
    return "; ".join(line for line in lines if line.startswith("connection to server")) or lines[0]


def connect_to(database: Database) -> Database:
    """Make `database` the one that this process's models use."""
    models.database.initialize(database)
    return database
