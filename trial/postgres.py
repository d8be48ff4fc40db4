"""An embedded PostgreSQL: one cluster in a folder of its own, for the trial service, tests and benchmarks."""

import contextlib
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg2
from psycopg2 import sql

from trial.accounts import postgresql_account
from trial.binaries import install_binaries, program
from trial.child import Child
from trial.cluster import PROGRAM_ENVIRONMENT, USER, create_cluster, data_folder, password_file, pid_file
from trial.errors import TrialError
from trial.ports import LOOPBACK, free_port, why_not

__all__ = ["EmbeddedPostgres", "install_binaries"]

DATABASE = "kadun"

_WAIT_SECONDS = 60
_POLL_SECONDS = 0.05
_SHARED_MEMORY_TABLE = Path("/proc/sysvipc/shm")
# What the last lines of the log say when another start may succeed: processes of a killed postmaster are about to end.
_STILL_ENDING = ('lock file "postmaster.pid" already exists', "pre-existing shared memory block")
_PORT_TAKEN = "could not create any TCP/IP sockets"


class EmbeddedPostgres:
    """A PostgreSQL cluster that listens on 127.0.0.1 only, with a password, under an unprivileged account.

    `cluster` holds `data` (PGDATA), `password` and `port`, and is created whole at the first start. The port is
    kept from start to start unless something else has taken it; an object that has started keeps its own.

    Args:
        binaries: What `install_binaries` made.
        cluster: The cluster's folder.
        settings: Settings of postgresql.conf.
        log: The log file; by default in the cluster's folder.
        held: The descriptor of a lock that PostgreSQL holds as long as it runs.
    """

    def __init__(
        self,
        binaries: Path,
        cluster: Path,
        *,
        settings: Mapping[str, str] | None = None,
        log: Path | None = None,
        held: int | None = None,
    ) -> None:
        self._binaries = binaries.resolve()
        self._cluster = cluster.resolve()
        self._settings = dict(settings or {})
        self._log = log or self._cluster / "postgresql.log"
        self._held = held
        self._account = postgresql_account()
        self._port: int | None = None
        self._postmaster: Child | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The number of the postmaster while it runs, otherwise None."""
        return self._postmaster.pid if self._postmaster else None

    def url(self, database: str = DATABASE) -> str:
        """Return the address of `database` for a client of the started cluster."""
        password = password_file(self._cluster).read_text(encoding="ascii")
        return f"postgresql://{USER}:{password}@{LOOPBACK}:{self._port}/{quote(database, safe='')}"

    def start(self) -> None:
        """Start the cluster, creating it first where there is none, and wait until it answers.

        Raises:
            TrialError: The cluster cannot be created or started; nothing is left half made.
        """
        if not self._cluster.exists():
            durable = self._settings.get("fsync") != "off"
            create_cluster(self._binaries, self._cluster, self._account, durable=durable)
        self._require_own()
        deadline = time.monotonic() + _WAIT_SECONDS
        port, launched = self._port, False
        while not self._answers():
            if self.pid is None:
                if launched and not self._may_retry(port):
                    raise self._failure("PostgreSQL 启动失败", "PostgreSQL did not start")
                self._launch(port or self._choose_port())
                launched = True
            if time.monotonic() > deadline:
                raise self._failure("PostgreSQL 未能就绪", "PostgreSQL does not get ready")
            time.sleep(_POLL_SECONDS)
        self._port_file.write_text(str(self._port))

    def stop(self) -> None:
        """Stop the cluster and end its clients' connections; nothing happens when it does not run."""
        if self._postmaster is not None:
            self._postmaster.stop()

    def create_database(self, name: str) -> None:
        """Create the database `name` unless it exists."""
        with contextlib.closing(psycopg2.connect(self.url("postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT FROM pg_database WHERE datname = %s", (name,))
                if not cursor.rowcount:
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _answers(self) -> bool:
        """Tell whether it is ready, by its own word: another program may answer on the port."""
        try:
            number, *_, status = pid_file(self._cluster).read_text().splitlines()
        except (OSError, ValueError):
            return False
        if number != str(self.pid) or status.strip() != "ready":
            return False
        try:
            self.create_database(DATABASE)
        except psycopg2.OperationalError:  # killed a moment ago
            return False
        return True

    def _require_own(self) -> None:
        """Refuse another account's files with a clear line; PostgreSQL's own stands only in its log."""
        data = data_folder(self._cluster)
        try:
            owner = data.stat().st_uid
        except OSError as error:
            raise TrialError(
                f"无法读取 {data}：{error.strerror}。", f"Cannot read {data}: {error.strerror}."
            ) from error
        if owner != self._account.uid:
            raise TrialError(
                f"{data} 属于另一用户（uid {owner}）：请以原用户运行，或用 KADUN_DATA_DIR 指定别处。",
                f"{data} belongs to another user (uid {owner}): run as that user, or set KADUN_DATA_DIR.",
            )

    def _launch(self, port: int) -> None:
        self._remove_stale_pid_file()
        self._port = port
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        settings = {"port": str(port), "listen_addresses": LOOPBACK, "unix_socket_directories": ""}
        options = [word for name, value in (self._settings | settings).items() for word in ("-c", f"{name}={value}")]
        command = [str(program(self._binaries, "postgres")), "-D", str(data_folder(self._cluster)), *options]
        account = self._account.options()
        self._postmaster = Child(command, PROGRAM_ENVIRONMENT, self._log, signal.SIGINT, self._held, **account)
        try:
            self._postmaster.start()
        except OSError as error:
            raise self._failure("PostgreSQL 无法运行", f"Cannot run PostgreSQL ({error.strerror})") from error

    def _may_retry(self, fixed_port: int | None) -> bool:
        """Tell whether a postmaster that ended may start now: its log says why it ended."""
        said = self._log.read_bytes()[self._log_start :].decode(errors="replace")
        return any(line in said for line in _STILL_ENDING) or (fixed_port is None and _PORT_TAKEN in said)

    def _remove_stale_pid_file(self) -> None:
        """Remove the file of a postmaster whose number another program has by now, as after a power failure.

        PostgreSQL would not start. While there is the shared memory that the file names, it is left to PostgreSQL.
        """
        file = pid_file(self._cluster)
        try:
            lines = file.read_text().splitlines()
            command = Path(f"/proc/{lines[0].strip()}/cmdline").read_text(errors="replace")
            segment = lines[6].split()[1]
        except (OSError, IndexError):
            return
        in_use = {line.split()[1] for line in _SHARED_MEMORY_TABLE.read_text().splitlines()}
        if str(data_folder(self._cluster)) not in command and segment not in in_use:
            file.unlink(missing_ok=True)

    def _choose_port(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            kept = int(self._port_file.read_text())
            if not why_not(kept):
                return kept
        return free_port()

    @property
    def _port_file(self) -> Path:
        return self._cluster / "port"

    def _failure(self, chinese: str, english: str) -> TrialError:
        postmaster = self._postmaster or Child((), {}, self._log, signal.SIGINT)
        return postmaster.failure(chinese, english)
