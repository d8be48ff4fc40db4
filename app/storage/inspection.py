"""Queries about the database itself: its size, clock and standbys, and what the journal recorded of doctor's probes."""

import contextlib
from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import psycopg2

from app.domain.codes import EventKind
from app.storage.database import Database
from app.storage.hosts import Host, is_proven
from app.storage.journal import code_or_kind, is_probe
from app.storage.models import Event, Operator

_FIGURES = """
SELECT current_setting('server_version'), pg_postmaster_start_time(), pg_database_size(current_database()),
    (SELECT nullif(reltuples, -1)::bigint FROM pg_class WHERE oid = 'event'::regclass),
    pg_total_relation_size('event')
"""


class DatabaseFigures(NamedTuple):
    """PostgreSQL's version and start, sizes in bytes, indexes included; `journal_rows` is its estimate, if any."""

    version: str
    started_at: datetime
    size: int
    journal_rows: int | None
    journal_size: int


def figures(database: Database) -> DatabaseFigures:
    """Return how large the database is; nothing is counted."""
    return DatabaseFigures(*database.execute_sql(_FIGURES).fetchone())


class Durability(NamedTuple):
    """Settings of the server: whether it waits for the disk, and which standbys it waits for."""

    fsync: bool
    synchronous: str


def durability(database: Database) -> Durability:
    """Return what the server does before it acknowledges a commit."""
    settings = "SELECT current_setting('fsync')::boolean, current_setting('synchronous_standby_names')"
    return Durability(*database.execute_sql(settings).fetchone())


def unproven_host(database: Database) -> str | None:
    """Return the database's host if somebody between could pose as it."""
    info = database.connection().info
    proven = is_proven(info.host, has_tls=info.ssl_in_use, parameters=info.dsn_parameters)
    return None if proven else str(info.host)


def standbys(database: Database) -> dict[str, int | str]:
    """Return for each host of the URL but the primary how many bytes it is behind, or why that is not known."""
    info = database.connection().info
    others = [host for host in database.hosts.all() if host != (info.host, info.port)]
    return {f"{host.host}:{host.port}": _behind(database, host) for host in others}


def _behind(database: Database, host: Host) -> int | str:
    try:
        with (
            contextlib.closing(database.open(**host._asdict(), target_session_attrs="any")) as standby,
            standby.cursor() as cursor,
        ):
            cursor.execute("SELECT pg_last_wal_replay_lsn()")
            (replayed,) = cursor.fetchone()
    except psycopg2.Error as error:
        return str(error).strip().split("\n")[0]
    if replayed is None:
        return "no standby"
    now = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s::pg_lsn)::bigint"
    return int(database.execute_sql(now, (replayed,)).fetchone()[0])


def clock(database: Database) -> datetime:
    """Return the database's time now."""
    now: datetime = database.execute_sql("SELECT clock_timestamp()").fetchone()[0]
    return now


def take_probes(references: Collection[str]) -> dict[str, str | None]:
    """Return the address that the journal has for each of the doctor's probes that it knows, and delete those entries.

    They would fill the journal and count as somebody's refusals.
    """
    if not references:
        return {}
    known = Event.reference.in_(references)
    found = dict(Event.select(Event.reference, Event.ip).where(known).tuples())
    Event.delete().where(known & is_probe()).execute()
    return found


def last_rotation() -> tuple[datetime, str | None] | None:
    """Return when the signing keys were rotated last and to which current key, if the journal has that."""
    rotations = Event.select(Event.at, Event.details["kid"]).where(code_or_kind == EventKind.KEY_ROTATED)
    return rotations.order_by(Event.at.desc(), Event.id.desc()).tuples().first()  # type: ignore[no-any-return]


def operators() -> dict[str, bool]:
    """Return of each operator, by name, whether a log-in wants a one-time code."""
    rows = Operator.select(Operator.name, Operator.totp_secret.is_null(is_null=False)).order_by(Operator.name)
    return dict(rows.tuples())
