"""An embedded PostgreSQL: one cluster in a folder of its own, for the trial service and for the tests."""

import contextlib
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg2
from psycopg2 import sql

from trial.binaries import install_binaries, program
from trial.cluster import PROGRAM_ENVIRONMENT, USER, create_cluster, password_file
from trial.errors import TrialError, tail
from trial.ports import LOOPBACK, free_port, why_not
from trial.postmaster import data_folder, has_orphans, pid_file, running_postmaster
from trial.processes import postgresql_account

__all__ = ["EmbeddedPostgres", "install_binaries"]

DATABASE = "kadun"

_WAIT_SECONDS = 60
_LAUNCHES = 3


class EmbeddedPostgres:
    """A PostgreSQL cluster that listens on 127.0.0.1 only, with a password, under an unprivileged account.

    `cluster` holds `data` (PGDATA), `password` and `port`, and is made whole at the first start. The port is
    kept from start to start unless something else has taken it; an object that has started keeps its own.
    """

    def __init__(
        self,
        binaries: Path,
        cluster: Path,
        *,
        settings: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        """Takes what `install_binaries` made, the cluster's folder, and settings of postgresql.conf."""
        self._binaries = binaries.resolve()
        self._cluster = cluster.resolve()
        self._settings = dict(settings or {})
        self._log = log or self._cluster / "postgresql.log"
        self._account = postgresql_account()
        self._port: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The postmaster that runs on this cluster, whoever started it; None when there is none."""
        postmaster = running_postmaster(self._cluster)
        return postmaster.pid if postmaster else None

    def url(self, database: str = DATABASE) -> str:
        """Returns the address of `database` for a client of the started cluster."""
        password = password_file(self._cluster).read_text(encoding="ascii")
        return f"postgresql://{USER}:{password}@{LOOPBACK}:{self._port}/{quote(database, safe='')}"

    def start(self) -> None:
        """Starts the cluster, making it first where there is none, and waits until it answers.

        A postmaster that already runs on it, left by a process that was killed, is taken over.

        Raises:
            TrialError: The cluster cannot be made or started; nothing is left half made.
        """
        if not self._cluster.exists():
            durable = self._settings.get("fsync") != "off"
            create_cluster(self._binaries, self._cluster, self._account, durable=durable)
        self._require_own()
        deadline = time.monotonic() + _WAIT_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise self._failure("PostgreSQL 未能就绪", "PostgreSQL does not get ready")
            if running_postmaster(self._cluster) is None:
                self._clear_stale_pid_file(deadline)
                self._launch()
            else:  # starting, stopping or dying: what comes next shows soon
                time.sleep(0.05)

    def stop(self) -> None:
        """Stops the cluster and ends its clients' connections; nothing happens when it does not run.

        Raises:
            TrialError: It does not stop.
        """
        for mode in ("fast", "immediate"):
            if self.pid is None:
                return
            self._pg_ctl("stop", "-m", mode)
        if self.pid is not None:
            raise self._failure("PostgreSQL 无法停止", "PostgreSQL does not stop")

    def restart(self) -> None:
        """Stops the cluster and starts it again, on the same port.

        Raises:
            TrialError: As `stop` and `start`.
        """
        self.stop()
        self.start()

    def create_database(self, name: str) -> None:
        """Makes the database `name` unless it exists."""
        with contextlib.closing(psycopg2.connect(self.url("postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT FROM pg_database WHERE datname = %s", (name,))
                if not cursor.rowcount:
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _answers(self) -> bool:
        postmaster = running_postmaster(self._cluster)
        if postmaster is None or postmaster.status != "ready":
            return False
        self._port = postmaster.port
        try:
            self.create_database(DATABASE)
        except psycopg2.OperationalError:  # killed a moment ago, it still looks alive
            return False
        return True

    def _require_own(self) -> None:
        """Refuses another account's files with a clear line; PostgreSQL's own stands only in its log."""
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

    def _clear_stale_pid_file(self, deadline: float) -> None:
        """Removes the file that a killed postmaster left, once none of its processes lives.

        PostgreSQL refuses to start while the number in it is alive, be it a zombie's or another's by now.
        """
        while has_orphans(self._cluster):
            if time.monotonic() > deadline:
                raise self._failure("旧 PostgreSQL 进程仍在运行", "Processes of a killed PostgreSQL still run")
            time.sleep(0.05)
        pid_file(self._cluster).unlink(missing_ok=True)

    def _launch(self) -> None:
        """Starts a postmaster; again when another program was faster to take the port."""
        for _ in range(_LAUNCHES):
            port = self._port or self._choose_port()
            settings = {"port": str(port), "listen_addresses": LOOPBACK, "unix_socket_directories": ""}
            options = [f"-c {shlex.quote(f'{k}={v}')}" for k, v in (self._settings | settings).items()]
            if self._pg_ctl("start", "-o", " ".join(options)):
                self._port_file.write_text(str(port))
                return
            if self._port or not why_not(port):
                break
        raise self._failure("PostgreSQL 启动失败", "PostgreSQL did not start")

    def _choose_port(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            kept = int(self._port_file.read_text())
            if not why_not(kept):
                return kept
        return free_port()

    @property
    def _port_file(self) -> Path:
        return self._cluster / "port"

    def _pg_ctl(self, action: str, *options: str) -> bool:
        data = str(data_folder(self._cluster))
        command = [str(program(self._binaries, "pg_ctl")), action, "-s", "-w", "-D", data, *options]
        try:
            with self._log.open("a") as log:
                done = self._account.run([*command, "-t", str(_WAIT_SECONDS)], stdout=log, environ=PROGRAM_ENVIRONMENT)
        except OSError as error:
            raise self._failure("PostgreSQL 无法运行", f"Cannot run PostgreSQL ({error.strerror})") from error
        return done.returncode == 0

    def _failure(self, chinese: str, english: str) -> TrialError:
        try:
            detail = tail(self._log.read_text(errors="replace"), lines=10)
        except OSError:
            detail = ""
        return TrialError(f"{chinese}，日志：{self._log}。", f"{english}; its log: {self._log}.", detail=detail)
