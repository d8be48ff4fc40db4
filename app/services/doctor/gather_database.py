"""Gathers the facts of the database and of the licensed files that it lists."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import peewee
import psycopg2

from app.clock import utc_now
from app.domain.errors import BucketUnavailableError, ConflictError, DatabaseUnavailableError
from app.services.doctor.facts import DatabaseFacts
from app.services.file_store import files_with_batches
from app.services.hosts import Hosts
from app.storage import inspection, schema, sealed_secrets
from app.storage.blobs import Blob, Blobs
from app.storage.database import Database
from app.tokens.sealing_key import SealingKey

Result = TypeVar("Result")


def database_facts(database: Database, references: Sequence[str], blobs: Blobs, key: SealingKey) -> DatabaseFacts | str:
    """Gather what the database tells, or return the error that keeps us from it.

    Args:
        database: Connected as the service's role.
        references: Of verdicts whose journal entries are read and deleted.
        blobs: The bytes of the licensed files.
        key: Opens the sealed secrets.
    """
    try:
        return database.with_connection(lambda: _query(database, references, blobs, key))
    except (DatabaseUnavailableError, ConflictError) as error:
        return str(error)
    except (psycopg2.Error, peewee.PeeweeException) as error:
        return str(error).strip().split("\n")[0]


def _query(database: Database, references: Sequence[str], blobs: Blobs, key: SealingKey) -> DatabaseFacts:
    before = utc_now()
    theirs = inspection.clock(database)
    facts = DatabaseFacts(
        schema_found=None,
        clock_offset_seconds=(theirs - before - (utc_now() - before) / 2).total_seconds(),
        unproven_host=inspection.unproven_host(database),
        **inspection.durability(database)._asdict(),
        standbys=inspection.standbys(database),
    )
    found = _readable(database, lambda: schema.current_version(database.connection()))
    database.rollback()  # an empty database has refused the query
    if found is None:
        return facts
    recorded = _readable(database, lambda: inspection.take_probes(references)) or {}
    facts = replace(facts, schema_found=found, recorded=recorded)
    if found != schema.expected_version():
        return facts
    count, lost = _files(database, blobs)
    return replace(
        facts,
        files=count,
        lost_files=lost,
        operators=_readable(database, inspection.operators),
        sealed=_readable(database, lambda: _sealed(key)),
        hosts=_readable(database, lambda: tuple(Hosts(database).listed())),
        last_rotation=_readable(database, inspection.last_rotation),
    )


def _readable(database: Database, work: Callable[[], Result]) -> Result | None:
    """Return what `work` reads; None where a right, a table or a column is missing."""
    try:
        return work()
    except (peewee.ProgrammingError, psycopg2.errors.InsufficientPrivilege):
        database.rollback()
        return None


def _files(database: Database, blobs: Blobs) -> tuple[int | None, tuple[str, ...] | None]:
    """Return how many licensed files there are, and those whose bytes are missing, if that is known."""
    listed = _readable(database, lambda: {row.name: Blob(row.sha256, row.size) for row, _ in files_with_batches()})
    if listed is None:
        return None, None
    try:
        missing = blobs.missing(set(listed.values()))
    except BucketUnavailableError:
        return len(listed), None
    return len(listed), tuple(name for name, blob in listed.items() if blob in missing)


def _sealed(key: SealingKey) -> dict[str, bool | None]:
    return {
        f"{secret.table} {secret.name}": key.opens(secret.table, secret.row, secret.text)
        for secret in sealed_secrets.every()
    }
