"""The version of the schema: migrated as a separate step, checked on each new connection.

A version is the name of the last migration. A program runs on its own schema, and on a newer one that says so: each
migration since 0020 names the `OLDEST` program, by its schema, that may run on what it makes (docs/migrations.md).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
from playhouse.migrations import Migration, Runner

from app.domain.errors import SchemaMismatchError
from app.storage.database import Database
from app.storage.grants import set_grants

_HISTORY = "schema_migration"
_FOLDER = Path(__file__).parent / "migrations"
_FIRST_TOLERANT = "0020_tolerance"  # older programs refuse each schema but their own
_LOCK = 0x6B6164756E  # "kadun": an advisory lock, so that concurrent migrations take turns


def expected_version() -> str:
    """Return the name of this program's last migration, `0001_initial` for example."""
    return max(path.stem for path in _FOLDER.glob("[0-9]*.py"))


def oldest_program() -> str:
    """Return the schema of the oldest program that may run on this program's."""
    since = (migration for migration in Migration.load_directory(str(_FOLDER)) if migration.name >= _FIRST_TOLERANT)
    return max(str(getattr(migration.load(), "OLDEST", migration.name)) for migration in since)


def check_version(connection: Any) -> None:  # noqa: ANN401  # a psycopg2 connection
    """Refuse a database whose schema is neither this program's nor a newer one that lets it run.

    Raises:
        SchemaMismatchError: names the schema found and the remedy.
    """
    found = current_version(connection)
    if found == expected_version() or (found is not None and tolerates(connection, found)):
        return
    remedy = (
        "this program is older than its database: run the newer version"
        if found is not None and found > expected_version()
        else "run `scripts/cardctl migrate`"
    )
    raise SchemaMismatchError(
        f"the database's schema is {found or 'empty'}, this program's is {expected_version()}: {remedy}"
    )


def current_version(connection: Any) -> str | None:  # noqa: ANN401  # a psycopg2 connection
    """Return the name of the last applied migration, None in an empty database."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(f"SELECT max(name) FROM {_HISTORY}")  # noqa: S608  # a constant
        except psycopg2.errors.UndefinedTable:
            return None
        version: str | None = cursor.fetchone()[0]
        return version


def tolerates(connection: Any, found: str) -> bool:  # noqa: ANN401  # as above
    """Tell whether the schema found is newer than this program's, and lets it run."""
    if found <= expected_version():
        return False
    with connection.cursor() as cursor:
        # A newer schema has the table. What it says is for schemas up to `newest`.
        cursor.execute("SELECT newest, oldest FROM schema_tolerance")
        row = cursor.fetchone()
        return row is not None and found <= row[0] and str(row[1]) <= expected_version()


def migrate(database: Database, report: Callable[[str], None]) -> None:
    """Migrate the schema, each migration in a transaction and all under a lock, and set the roles' rights.

    A newer schema that lets this program run stays as it is, its rights too.

    Args:
        database: Connected as the owner of the tables, with no limit on a statement's time.
        report: Called with a line for each step.

    Raises:
        SchemaMismatchError: The database is newer than this program, and does not let it run.
    """

    def run() -> None:
        connection = database.connection()
        database.execute_sql("SELECT pg_advisory_lock(%s)", (_LOCK,))
        try:
            found = current_version(connection)
            if found is not None and found > expected_version():
                check_version(connection)
                report(f"schema is {found}, newer than this program's, which may run on it")
                return
            if found is not None and found >= _FIRST_TOLERANT:
                _note_tolerance(database)  # before the first change: programs that it shuts out get no new connection
            for name in Runner(database, str(_FOLDER), _HISTORY).up():
                report(f"applied {name}")
            _note_tolerance(database)
            set_grants(database)
            report(f"schema is {expected_version()}")
        finally:
            database.execute_sql("SELECT pg_advisory_unlock(%s)", (_LOCK,))

    database.with_connection(run)


def _note_tolerance(database: Database) -> None:
    database.execute_sql("UPDATE schema_tolerance SET newest = %s, oldest = %s", (expected_version(), oldest_program()))
