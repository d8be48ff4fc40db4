"""Queries about the database itself: its size and clock, what the roles may do, what the journal recorded of probes."""

import contextlib
from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import psycopg2
from peewee import JOIN

from app.domain.codes import EventKind
from app.domain.operators import console_actor, shop_actor
from app.storage import catalog
from app.storage.database import Database
from app.storage.grants import WITHHELD
from app.storage.hosts import Host, is_proven
from app.storage.journal import code_or_kind, is_probe
from app.storage.models import ApiToken, Ceiling, Event, Operator

# Attributes of the current role and of the stack's other two, where the database has them.
_ATTRIBUTES = """
SELECT rolname, array_remove(ARRAY[
    CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
    CASE WHEN rolcreatedb AND rolname <> 'kadun_owner' THEN 'CREATEDB' END,
    CASE WHEN rolreplication THEN 'REPLICATION' END, CASE WHEN rolbypassrls THEN 'BYPASSRLS' END], NULL)
FROM pg_roles WHERE rolname IN (current_user, 'kadun_owner', 'kadun_backup') ORDER BY rolname
"""
# What the service's role must not be able to do. A superuser can do all of it, which the query above reports. Tables by
# OID: their names mean nothing to a role that may not use the schema.
_RIGHTS = """
SELECT array_remove(ARRAY[
    CASE WHEN has_database_privilege(current_database(), 'CREATE') THEN 'CREATE in the database' END,
    CASE WHEN has_schema_privilege('public', 'CREATE') THEN 'CREATE in schema public' END,
    CASE WHEN EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S')
        AND pg_has_role(relowner, 'USAGE')) THEN 'owns tables' END,
    CASE WHEN has_table_privilege(journal.oid, 'UPDATE') THEN 'UPDATE of the journal' END,
    CASE WHEN has_table_privilege(journal.oid, 'TRUNCATE') THEN 'TRUNCATE of the journal' END], NULL)
FROM pg_roles LEFT JOIN pg_class AS journal ON relname = 'event' AND relnamespace = 'public'::regnamespace
WHERE rolname = current_user AND NOT rolsuper
"""
_BACKUP_RIGHTS = """
SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
    AND has_table_privilege('kadun_backup', oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))
FROM pg_roles WHERE rolname = 'kadun_backup' AND NOT rolsuper
"""

# What each role needs: the service's as grants.py sets it, the backup's for pg_dump, which reads every table and
# sequence, and the owner's for migrations and restores.
_NEEDED = """
WITH relation AS (
    SELECT oid, relname, relkind, relowner, relname = ANY (%(tables)s) AS is_ours
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S')
)
SELECT rolname, 'CONNECT' FROM pg_roles
WHERE rolname IN (current_user, 'kadun_app', 'kadun_backup')
    AND NOT has_database_privilege(rolname, current_database(), 'CONNECT')
UNION ALL
SELECT rolname, 'USAGE of schema public' FROM pg_roles
WHERE rolname IN (current_user, 'kadun_backup') AND NOT has_schema_privilege(rolname, 'public', 'USAGE')
UNION ALL
SELECT rolname, privilege || ' on ' || relname
FROM pg_roles CROSS JOIN relation CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
WHERE relkind = 'r' AND ((rolname = current_user AND is_ours) OR (rolname = 'kadun_backup' AND privilege = 'SELECT'))
    AND NOT has_table_privilege(rolname, relation.oid, privilege)
UNION ALL
SELECT rolname, 'SELECT on ' || relname FROM pg_roles CROSS JOIN relation
WHERE relkind = 'S' AND rolname = 'kadun_backup' AND NOT has_sequence_privilege(rolname, relation.oid, 'SELECT')
UNION ALL
SELECT rolname, 'ownership of ' || relname FROM pg_roles CROSS JOIN relation
WHERE is_ours AND rolname = 'kadun_owner' AND NOT pg_has_role(rolname, relowner, 'USAGE')
UNION ALL
SELECT rolname, 'CREATEDB' FROM pg_roles WHERE rolname = 'kadun_owner' AND NOT rolcreatedb
ORDER BY 1, 2
"""


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


def role_problems(database: Database) -> dict[str, list[str]]:
    """Return for each role what it could do and must not, in PostgreSQL's words; the tables must be there."""
    problems = {name: list(attributes) for name, attributes in database.execute_sql(_ATTRIBUTES).fetchall()}
    mine = problems.setdefault(database.execute_sql("SELECT current_user::text").fetchone()[0], [])
    for (rights,) in database.execute_sql(_RIGHTS).fetchall():
        mine += rights
    if any(may_write for (may_write,) in database.execute_sql(_BACKUP_RIGHTS).fetchall()):
        problems["kadun_backup"].append("writes tables")
    return problems


def missing_rights(database: Database) -> dict[str, list[str]]:
    """Return for each role what it needs and may not do, in PostgreSQL's words; reads nothing but system catalogs."""
    withheld = {f"{right} on {table}" for table, rights in WITHHELD.items() for right in rights}
    missing: dict[str, list[str]] = {}
    for role, right in database.execute_sql(_NEEDED, {"tables": catalog.tables()}).fetchall():
        if right not in withheld:
            missing.setdefault(role, []).append(right)
    return missing


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


def without_ceilings() -> tuple[str, ...]:
    """Return the operators and valid tokens, as actors of the journal, that lack a ceiling."""
    lacking = Ceiling.cards_per_day.is_null() | Ceiling.longest_validity.is_null()
    names = Operator.select(Operator.name).join(Ceiling, JOIN.LEFT_OUTER).where(lacking).order_by(Operator.name)
    shops = ApiToken.select(ApiToken.name).join(Ceiling, JOIN.LEFT_OUTER).where(lacking & ApiToken.revoked_at.is_null())
    return (
        *(console_actor(row.name) for row in names),
        *(shop_actor(row.name) for row in shops.order_by(ApiToken.name)),
    )


def expiring_tokens(before: datetime) -> dict[str, datetime]:
    """Return the tokens that expire before `before` or have expired, by name."""
    soon = (ApiToken.expires_at < before) & ApiToken.revoked_at.is_null()
    return dict(ApiToken.select(ApiToken.name, ApiToken.expires_at).where(soon).order_by(ApiToken.name).tuples())
