"""A standby of an embedded PostgreSQL."""

import contextlib
import shutil
from pathlib import Path

import psycopg2

from trial.cluster import pid_file
from trial.postgres import EmbeddedPostgres


def execute(postgres: EmbeddedPostgres, *statements: str) -> None:
    """Execute statements, each in a transaction of its own."""
    with contextlib.closing(psycopg2.connect(postgres.url())) as connection:
        connection.autocommit = True
        for statement in statements:
            connection.cursor().execute(statement)


def host_of(postgres: EmbeddedPostgres) -> str:
    """The address and the port, as they stand in a URL."""
    return postgres.url().rpartition("@")[2].partition("/")[0]


class Standby(EmbeddedPostgres):
    """Follows a primary by streaming replication; made from a copy of its stopped cluster."""

    @classmethod
    def of(cls, primary: EmbeddedPostgres, binaries: Path, cluster: Path, name: str) -> "Standby":
        """Copy the primary's cluster; `name` is what its `synchronous_standby_names` calls the standby."""
        primary.stop()
        copied = cluster.with_name(f"{cluster.name}-standby")
        shutil.copytree(cluster, copied, copy_function=_copy_with_owner)
        (copied / "port").unlink()
        for folder in (cluster, *cluster.rglob("*/")):
            owner = folder.stat()
            shutil.chown(copied / folder.relative_to(cluster), owner.st_uid, owner.st_gid)
        signal = copied / "data/standby.signal"
        signal.touch()
        primary.start()
        url = primary.url()
        return cls(binaries, copied, settings={"primary_conninfo": f"{url}?application_name={name}"})

    def promote(self) -> None:
        """Make it the primary, and wait until it is."""
        with contextlib.closing(psycopg2.connect(self.url())) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_promote()")

    def _answers(self) -> bool:
        try:
            *_, status = pid_file(self._cluster).read_text().splitlines()
        except (OSError, ValueError):
            return False
        return status.strip() in {"ready", "standby"}


def _copy_with_owner(source: str, target: str) -> None:
    shutil.copy2(source, target)
    owner = Path(source).stat()
    shutil.chown(target, owner.st_uid, owner.st_gid)
