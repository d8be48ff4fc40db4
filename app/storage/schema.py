"""The version of the schema: migrated as a separate step, checked on each new connection."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
from playhouse.migrations import Runner

from app.domain.errors import SchemaMismatchError
from app.storage.database import Database
from app.storage.grants import set_grants

_HISTORY = "schema_migration"
_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x6B6164756E  # "kadun": an advisory lock, so that concurrent migrations take turns


def expected_version() -> str:
    """Return the name of this program's last migration, `0001_initial` for example."""
    return max(path.stem for path in _FOLDER.glob("[0-9]*.py"))


def check_version(connection: Any) -> None:  # noqa: ANN401  # a psycopg2 connection
    """Refuse a database with another schema than this program's.

    Raises:
        SchemaMismatchError: names the schema found and the remedy.
    """
    found = current_version(connection)
    if found == expected_version():
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


def migrate(database: Database, report: Callable[[str], None]) -> None:
    """Migrate the schema, each migration in a transaction and all under a lock, and set the roles' rights.

    Args:
        database: Connected as the owner of the tables, with no limit on a statement's time.
        report: Called with a line for each step.

    Raises:
        SchemaMismatchError: The database is newer than this program.
    """

    def run() -> None:
        connection = database.connection()
        database.execute_sql("SELECT pg_advisory_lock(%s)", (_LOCK,))
        try:
            found = current_version(connection)
            if found is not None and found > expected_version():
                check_version(connection)
            for name in Runner(database, str(_FOLDER), _HISTORY).up():
                report(f"applied {name}")
            set_grants(database)
        finally:
            database.execute_sql("SELECT pg_advisory_unlock(%s)", (_LOCK,))

    database.with_connection(run)
    report(f"schema is {expected_version()}")
