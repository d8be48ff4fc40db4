"""Gathers the facts of the database and of the licensed files that it lists."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import peewee
import psycopg2

from app.clock import utc_now
from app.domain.errors import BucketUnavailableError, ConflictError, DatabaseUnavailableError
from app.services.doctor.facts import TOKEN_EXPIRES_SOON, DatabaseFacts
from app.storage import catalog, files, host_reports, inspection, schema, sealed_secrets
from app.storage.blobs import Blob, Blobs
from app.storage.database import Database
from app.tokens.sealing_key import SealingKey

Result = TypeVar("Result")


def database_facts(
    database: Database, references: Sequence[str], blobs: Blobs, key: SealingKey, compare_bytes: int
) -> DatabaseFacts | str:
    """Gather what the database tells, or return the error that keeps us from it.

    Args:
        database: Connected as the service's role.
        references: Of verdicts whose journal entries are read and deleted.
        blobs: The bytes of the licensed files.
        key: Opens the sealed secrets.
        compare_bytes: How many of these bytes are read at most.
    """
    try:
        return database.with_connection(lambda: _query(database, references, blobs, key, compare_bytes))
    except (DatabaseUnavailableError, ConflictError) as error:
        return str(error)
    except (psycopg2.Error, peewee.PeeweeException) as error:
        return str(error).strip().split("\n")[0]


def _query(
    database: Database, references: Sequence[str], blobs: Blobs, key: SealingKey, compare_bytes: int
) -> DatabaseFacts:
    before = utc_now()
    theirs = inspection.clock(database)
    offset = (theirs - before - (utc_now() - before) / 2).total_seconds()
    roles, missing = inspection.role_problems(database), inspection.missing_rights(database)
    facts = DatabaseFacts(
        None,
        offset,
        roles,
        missing_rights=missing,
        **inspection.durability(database)._asdict(),
        standbys=inspection.standbys(database),
        unproven_host=inspection.unproven_host(database),
    )
    try:
        found = schema.current_version(database.connection())
    except psycopg2.errors.InsufficientPrivilege:
        found = None
    database.rollback()  # an empty database has refused the query
    if found is None:
        return facts
    recorded = _readable(database, lambda: inspection.take_probes(references)) or {}
    facts = replace(facts, schema_found=found, recorded=recorded)
    if found != schema.expected_version():
        return facts
    facts = replace(
        facts,
        catalog=catalog.difference(database),
        operators=_readable(database, inspection.operators),
        without_ceilings=_readable(database, inspection.without_ceilings),
        expiring_tokens=_readable(database, _expiring_tokens),
        sealed=_readable(database, lambda: _sealed(key)),
        hosts=_readable(database, lambda: tuple(host_reports.listed())),
        sessions=tuple(host_reports.sessions(database)),
        jobs=_readable(database, host_reports.jobs) or {},
        last_rotation=_readable(database, inspection.last_rotation),
    )
    listed = _readable(database, lambda: {row.name: Blob(row.sha256, row.size) for row, _ in files.listed()})
    return facts if listed is None else _with_files(facts, listed, blobs, compare_bytes)


def _expiring_tokens() -> tuple[str, ...]:
    found = inspection.expiring_tokens(utc_now() + TOKEN_EXPIRES_SOON)
    return tuple(f"{name} {at:%Y-%m-%d}" for name, at in found.items())


def _sealed(key: SealingKey) -> dict[str, bool | None]:
    return {
        f"{secret.table} {secret.name}": key.opens(secret.table, secret.row, secret.text)
        for secret in sealed_secrets.every()
    }


def _readable(database: Database, work: Callable[[], Result]) -> Result | None:
    """Return what `work` reads; None where a right, a table or a column is missing, which other checks report."""
    try:
        return work()
    except peewee.ProgrammingError:
        database.rollback()
        return None


def _with_files(facts: DatabaseFacts, listed: Mapping[str, Blob], blobs: Blobs, compare_bytes: int) -> DatabaseFacts:
    try:
        missing = blobs.missing(set(listed.values()))
    except BucketUnavailableError:
        return replace(facts, files=len(listed), lost_files=None)
    lost = tuple(name for name, blob in listed.items() if blob in missing)
    facts = replace(facts, files=len(listed), lost_files=lost)
    if not compare_bytes:
        return facts
    altered, compared = [], 0
    for name in random.sample(list(listed), len(listed)):  # where not all can be read, others each time
        blob = listed[name]
        if name in lost or blob.size > compare_bytes:
            continue
        try:
            if not blobs.is_intact(blob):
                altered.append(name)
        except (OSError, BucketUnavailableError):  # removed meanwhile, or not readable for this user
            continue
        compare_bytes -= blob.size
        compared += 1
    return replace(facts, altered_files=tuple(sorted(altered)), compared_files=compared)
