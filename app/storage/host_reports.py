"""What the hosts of this database report of themselves (table `host`). Times are the database's, which all share."""

from collections.abc import Mapping
from datetime import timedelta

from peewee import fn

from app.domain.hosts import HostReport
from app.storage.models import Host

FORGOTTEN_AFTER = timedelta(days=1)
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


def forget(name: str) -> bool:
    """Delete a host's report; return whether there was one."""
    return bool(Host.delete().where(Host.name == name).execute())
