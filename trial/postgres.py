"""An embedded PostgreSQL: one cluster in a folder of its own, for the trial service, tests and benchmarks."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import psycopg2
from psycopg2 import extensions, sql

from trial.binaries import install_binaries, program
from trial.child import Child
from trial.environment import LOOPBACK, write_secret
from trial.messages import TrialError, tail

__all__ = ["EmbeddedPostgres", "install_binaries"]

USER = DATABASE = "kadun"
NOBODY = 65_534
"""The user and group that PostgreSQL has where root starts it: it refuses to run as root."""

# Nothing of the caller's environment: no PG* variable, no locale that this machine may lack.
PROGRAM_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_INITDB_OPTIONS = (
    f"--username={USER}",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",  # PostgreSQL's own C.UTF-8: the same on every machine
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)
_WAIT_SECONDS = 60
_CONNECT_SECONDS = 10
_POLL_SECONDS = 0.05
# What the log says when another start may succeed: processes of a killed postmaster are about to end.
_STILL_ENDING = ('lock file "postmaster.pid" already exists', "pre-existing shared memory block")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def run_as() -> dict[str, Any]:
    """Return the arguments of Popen that run a PostgreSQL program: in `/`, since its user may not enter our folder."""
    other = {} if os.geteuid() else {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    return {"cwd": "/", "umask": 0o077, **other}


class EmbeddedPostgres:
    """A PostgreSQL cluster that listens on 127.0.0.1 only, with a password, under an unprivileged account.

    `cluster` holds `data` (PGDATA) and `password`, and is created whole at the first start. An object that has started
    keeps its port.

    Args:
        binaries: What `install_binaries` made.
        cluster: The cluster's folder.
        settings: Settings of postgresql.conf.
        log: The log file; by default in the cluster's folder.
    """

    def __init__(
        self, binaries: Path, cluster: Path, *, settings: Mapping[str, str] | None = None, log: Path | None = None
    ) -> None:
        self._binaries = binaries.resolve()
        self._cluster = cluster.resolve()
        self._data = self._cluster / "data"
        self._settings = {"listen_addresses": LOOPBACK, "unix_socket_directories": "", **(settings or {})}
        self._log = log or self._cluster / "postgresql.log"
        self._port = 0
        self._postmaster = self._child()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The number of the postmaster while it runs, otherwise None."""
        return self._postmaster.pid

    def url(self, database: str = DATABASE) -> str:
        """Return the address of `database` for a client of the started cluster."""
        password = (self._cluster / "password").read_text(encoding="ascii")
        return f"postgresql://{USER}:{password}@{LOOPBACK}:{self._port}/{quote(database, safe='')}"

    def start(self) -> None:
        """Start the cluster, creating it first where there is none, and wait until it answers.

        Raises:
            TrialError: The cluster cannot be created or started.
        """
        if self.pid is not None:  # which also reaps one that was killed: PostgreSQL takes a zombie for alive
            return
        if not self._cluster.exists():
            self._create()
        self._port = self._port or free_port()
        self._postmaster = self._child()
        deadline = time.monotonic() + _WAIT_SECONDS
        self._postmaster.start()
        while not self._answers():
            if time.monotonic() > deadline:
                raise self.failure("PostgreSQL 未能就绪", "PostgreSQL does not get ready")
            if self.pid is None:
                failure = self.failure("PostgreSQL 启动失败", "PostgreSQL did not start")
                if not any(line in failure.detail for line in _STILL_ENDING):
                    raise failure
                self._postmaster.start()
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop the cluster and end its clients' connections; nothing happens when it does not run."""
        self._postmaster.stop()

    def failure(self, chinese: str, english: str) -> TrialError:
        """Return an error that shows the end of its log."""
        return self._postmaster.failure(chinese, english)

    def create_database(self, name: str) -> None:
        """Create the database `name` unless it exists."""
        with self._cursor() as cursor:
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", (name,))
            if not cursor.rowcount:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[extensions.cursor]:
        address = self.url("postgres")
        with contextlib.closing(psycopg2.connect(address, connect_timeout=_CONNECT_SECONDS)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                yield cursor

    def _answers(self) -> bool:
        """Tell whether it is ready: it, and not another server on its port."""
        try:
            with self._cursor() as cursor:
                cursor.execute("SHOW data_directory")
                if cursor.fetchone() != (str(self._data),):
                    return False
            self.create_database(DATABASE)
        except psycopg2.OperationalError:
            return False
        return True

    def _child(self) -> Child:
        settings = self._settings | {"port": str(self._port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [str(program(self._binaries, "postgres")), "-D", str(self._data), *options]
        return Child(command, PROGRAM_ENVIRONMENT, self._log, signal.SIGINT, **run_as())

    def _create(self) -> None:
        """Create the cluster, under another name first, so that one that exists is whole."""
        making = self._cluster.with_name(f".{self._cluster.name}.new")
        shutil.rmtree(making, ignore_errors=True)
        password, data = making / "password", making / "data"
        data.mkdir(parents=True)
        making.chmod(0o711)  # PostgreSQL's account passes through to its data, and lists nothing
        data.chmod(0o700)
        write_secret(password, secrets.token_urlsafe(24))
        if os.geteuid() == 0:
            os.chown(password, NOBODY, NOBODY)
            os.chown(data, NOBODY, NOBODY)
        command = [str(program(self._binaries, "initdb")), *_INITDB_OPTIONS, f"--pwfile={password}", f"--pgdata={data}"]
        if self._settings.get("fsync") == "off":
            command.append("--no-sync")
        try:
            subprocess.run(
                command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace", env=PROGRAM_ENVIRONMENT, start_new_session=True, **run_as(),
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError) as error:
            shutil.rmtree(making)
            raise TrialError(
                f"无法创建数据库 {self._cluster}：请用 KADUN_DATA_DIR 指定所有用户都能进入的目录。",
                f"Cannot make the database {self._cluster}: set KADUN_DATA_DIR to a folder that every user can enter.",
                detail=tail(error.stdout if isinstance(error, subprocess.CalledProcessError) else str(error)),
            ) from error
        os.chown(password, os.geteuid(), os.getegid())
        making.rename(self._cluster)
