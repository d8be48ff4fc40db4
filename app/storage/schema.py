"""The version of the schema: migrated as a separate step, checked on each new connection; and the roles' rights.

A version is the name of the last migration. A program runs on its own schema and on every newer one; whether an older
program may go on during an upgrade is judged by `scripts/upgrade.sh` alone (docs/architecture.md).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2

from app.domain.errors import SchemaMismatchError
from app.storage.database import Database

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x6B6164756E  # "kadun": an advisory lock, so that concurrent migrations take turns

# As the migration runner of release 1.0 made it.
_HISTORY = """
CREATE TABLE IF NOT EXISTS schema_migration (
    id serial PRIMARY KEY, name varchar(255) NOT NULL, applied timestamp NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS schema_migration_name ON schema_migration (name);
"""
_APPLIED = "INSERT INTO schema_migration (name, applied) VALUES (%s, now())"

_DEVELOPMENT = "0005_daily_counts"
"""The first of the migrations between releases 1.0 and 1.1, which are now one."""

# `deploy/postgres/roles.sql` creates them.
_SEPARATE_ROLES = "SELECT FROM pg_roles WHERE rolname IN ('kadun_app', 'kadun_backup')"

WITHHELD = {"event": ("UPDATE",), "api_token": ("DELETE",), "schema_migration": ("INSERT", "UPDATE", "DELETE")}
"""What the service's role may not do with a table; it reads and writes rows of all others.

DELETE of the journal is for pruning; triggers keep it to rejections. A shop's token is revoked, never deleted: its
idempotency records would go with it, and its orders could take effect twice.
"""

# The default privileges are for the tables that this owner makes from now on: a restore's, before its own migration.
_GRANTS = """
DO $$ BEGIN
    EXECUTE 'REVOKE ALL ON DATABASE ' || quote_ident(current_database()) || ' FROM PUBLIC';
    EXECUTE 'GRANT CONNECT ON DATABASE ' || quote_ident(current_database()) || ' TO kadun_app, kadun_backup';
END $$;
GRANT USAGE ON SCHEMA public TO kadun_app, kadun_backup;

ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO kadun_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO kadun_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO kadun_backup;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON SEQUENCES TO kadun_backup;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO kadun_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO kadun_app;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO kadun_backup;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO kadun_backup;
"""
_REVOKES = "".join(f"REVOKE {', '.join(rights)} ON {table} FROM kadun_app;\n" for table, rights in WITHHELD.items())


def expected_version() -> str:
    """Return the name of this program's last migration, `0001_initial` for example."""
    return _migrations()[-1].stem


def check_version(connection: Any) -> None:  # noqa: ANN401  # a psycopg2 connection
    """Refuse a database whose schema is older than this program's, by a SchemaMismatchError with the remedy."""
    found = current_version(connection)
    if found is None or found < expected_version():
        raise SchemaMismatchError(
            f"the database's schema is {found or 'empty'}, this program's is {expected_version()}: "
            "run `scripts/cardctl migrate`"
        )


def current_version(connection: Any) -> str | None:  # noqa: ANN401  # a psycopg2 connection
    """Return the last applied migration, None in an empty database; SchemaMismatchError for a development version's."""
    with connection.cursor() as cursor:
        try:
            cursor.execute("SELECT max(name), bool_or(name = %s) FROM schema_migration", (_DEVELOPMENT,))
        except psycopg2.errors.UndefinedTable:
            return None
        version, is_development = cursor.fetchone()
    if is_development:
        raise SchemaMismatchError(
            f"a development version made this database (schema {version}): only commit 3bbb1b0 opens it"
        )
    return str(version) if version else None


def migrate(database: Database, report: Callable[[str], None]) -> None:
    """Migrate the schema, each migration in a transaction and all under a lock, and set the roles' rights.

    A newer schema stays as it is, its rights too. The database is connected as the owner of the tables, with no limit
    on a statement's time. `report` is called with a line for each step. Raise SchemaMismatchError if a development
    version between releases 1.0 and 1.1 made the database.
    """

    def run() -> None:
        connection = database.connection()
        database.execute_sql("SELECT pg_advisory_lock(%s)", (_LOCK,))
        try:
            found = current_version(connection) or ""
            if found > expected_version():
                report(f"schema is {found}, newer than this program's, which runs on it")
                return
            database.execute_sql(_HISTORY)  # refused to any role but the owner, also where nothing is left to do
            for migration in _migrations():
                if migration.stem > found:
                    with database.atomic():
                        # Without parameters, so that a percent sign is one.
                        connection.cursor().execute(migration.read_text("utf-8"))
                        database.execute_sql(_APPLIED, (migration.stem,))
                    report(f"applied {migration.stem}")
            set_grants(database)
            report(f"schema is {expected_version()}")
        finally:
            database.execute_sql("SELECT pg_advisory_unlock(%s)", (_LOCK,))

    database.with_connection(run)


def set_grants(database: Database) -> None:
    """Set all rights, as the owner of the tables. A database with a single role, such as the trial's, needs none."""
    with database.atomic():
        if len(database.execute_sql(_SEPARATE_ROLES).fetchall()) == 2:  # noqa: PLR2004  # both
            database.execute_sql(_GRANTS + _REVOKES)


def _migrations() -> list[Path]:
    return sorted(_FOLDER.glob("[0-9]*.sql"))
