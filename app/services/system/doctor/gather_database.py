"""Gathers the facts of the database and of the licensed files that it lists."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

import peewee
import psycopg2

from app.domain.codes import EventKind
from app.domain.errors import BucketUnavailableError, ConflictError, DatabaseUnavailableError
from app.domain.files.files import Blob
from app.runtime.clock import utc_now
from app.services.files.file_store import files
from app.services.keys import sealed_secrets
from app.services.system import hosts
from app.services.system.doctor.facts import DatabaseFacts
from app.storage import schema
from app.storage.blobs import Blobs
from app.storage.database import Database
from app.storage.hosts import is_proven
from app.storage.journal import code_or_kind, is_probe
from app.storage.models import Event, Operator
from app.tokens.sealing_key import SealingKey


def database_facts(database: Database, references: Sequence[str], blobs: Blobs, key: SealingKey) -> DatabaseFacts | str:
    """Gather what the database tells, and delete the entries of these references; or return why it tells nothing."""
    try:
        return database.with_connection(lambda: _query(database, references, blobs, key))
    except (DatabaseUnavailableError, ConflictError) as error:
        return str(error)
    except (psycopg2.Error, peewee.PeeweeException) as error:
        return str(error).strip().split("\n")[0]


def _query(database: Database, references: Sequence[str], blobs: Blobs, key: SealingKey) -> DatabaseFacts:
    before = utc_now()
    (theirs,) = database.execute_sql("SELECT clock_timestamp()").fetchone()
    offset = theirs - before - (utc_now() - before) / 2
    durability = "SELECT current_setting('fsync')::boolean, current_setting('synchronous_standby_names')"
    fsync, synchronous = database.execute_sql(durability).fetchone()
    found = schema.current_version(database.connection())
    facts = DatabaseFacts(
        schema_found=found,
        clock_offset_seconds=offset.total_seconds(),
        unproven_host=_unproven_host(database),
        fsync=fsync,
        synchronous=synchronous,
        hosts_in_url=len(database.hosts.all()),
    )
    if found != schema.expected_version():
        return facts
    listed = {row.name: Blob(row.sha256, row.size) for row in files()}
    operators = Operator.select(Operator.name, Operator.totp_secret.is_null(is_null=False)).order_by(Operator.name)
    return replace(
        facts,
        recorded=_take_probes(references),
        files=len(listed),
        lost_files=_lost(listed, blobs),
        operators=dict(operators.tuples()),
        sealed={f"{table} {row.name}": key.opens(table, row.id, row.sealed) for table, row in sealed_secrets.every()},
        hosts=tuple(hosts.listed(database)),
        last_rotation=_last_rotation(),
    )


def _lost(listed: dict[str, Blob], blobs: Blobs) -> tuple[str, ...] | None:
    """Return the licensed files whose bytes are missing, None where the bucket is away."""
    try:
        missing = blobs.missing(set(listed.values()))
    except BucketUnavailableError:
        return None
    return tuple(name for name, blob in listed.items() if blob in missing)


def _unproven_host(database: Database) -> str | None:
    """Return the database's host if somebody between could pose as it."""
    info = database.connection().info
    proven = is_proven(info.host, has_tls=info.ssl_in_use, parameters=info.dsn_parameters)
    return None if proven else str(info.host)


def _take_probes(references: Collection[str]) -> dict[str, str | None]:
    """Return the addresses of the doctor's probes in the journal, and delete those entries, nobody's refusals."""
    if not references:
        return {}
    known = Event.reference.in_(references)
    found = dict(Event.select(Event.reference, Event.ip).where(known).tuples())
    Event.delete().where(known & is_probe).execute()
    return found


def _last_rotation() -> tuple[datetime, str | None] | None:
    """Return when the signing keys were rotated last and to which current key, if the journal has that."""
    rotations = Event.select(Event.at, Event.details["kid"]).where(code_or_kind == EventKind.KEY_ROTATED)
    return rotations.order_by(Event.at.desc(), Event.id.desc()).tuples().first()  # type: ignore[no-any-return]
