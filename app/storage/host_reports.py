"""What the hosts of this database report of themselves (table `host`). Times are the database's, which all share."""

from collections.abc import Mapping
from datetime import timedelta

from peewee import fn

from app.domain.hosts import HostJob, HostReport, application_name
from app.storage import models
from app.storage.database import Database
from app.storage.hosts import CONTAINER
from app.storage.models import Host

FORGOTTEN_AFTER = timedelta(days=1)
_PREFIX = application_name("")
_SESSIONS = """
    SELECT DISTINCT substr(application_name, length(%s) + 1), host(client_addr) FROM pg_stat_activity
    WHERE starts_with(application_name, %s) AND datname = current_database() AND client_addr IS NOT NULL
"""
_NOW = fn.clock_timestamp()


def write(name: str, facts: Mapping[str, object]) -> None:
    """Write a host's report in place of its last one, and forget hosts that have been away for a day.

    Args:
        name: Of the host.
        facts: The values of the other columns but `seen_at`.
    """
    row = {getattr(Host, column): value for column, value in facts.items()} | {Host.seen_at: _NOW}
    Host.insert({Host.name: name, **row}).on_conflict(conflict_target=[Host.name], update=row).execute()
    Host.delete().where(Host.seen_at < _NOW - FORGOTTEN_AFTER).execute()


def listed() -> list[HostReport]:
    """Return the hosts, by name."""
    rows = Host.select(Host, (_NOW - Host.seen_at).alias("unseen")).order_by(Host.name).objects()
    return [
        HostReport(
            name=row.name,
            version=row.version,
            schema=row.schema,
            kid=row.kid,
            functions_sha256=row.functions_sha256,
            clock_offset_ms=row.clock_offset_ms,
            seen_at=row.seen_at,
            unseen_seconds=row.unseen.total_seconds(),
        )
        for row in rows
    ]


def sessions(database: Database) -> list[tuple[str, str]]:
    """Return of the hosts' sessions the host's name and the client's address.

    There are none where the database is in its container: each container has an address of its own there.
    """
    if database.connection().info.host == CONTAINER:
        return []
    return list(database.execute_sql(_SESSIONS, (_PREFIX, _PREFIX)).fetchall())


def forget(name: str) -> bool:
    """Delete a host's report; return whether there was one."""
    return bool(Host.delete().where(Host.name == name).execute())


def jobs() -> dict[str, HostJob]:
    """Return who did each job of the scripts last: `backup` and `verify`."""
    return {row.name: HostJob(row.host, row.done_at) for row in models.HostJob.select()}
