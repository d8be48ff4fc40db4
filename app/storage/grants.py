"""The rights of the service's and the backup's roles in the database; `deploy/postgres/roles.sql` creates the roles."""

from app.storage.database import Database

_SEPARATE_ROLES = "SELECT FROM pg_roles WHERE rolname IN ('kadun_app', 'kadun_backup')"

WITHHELD = {
    "event": ("UPDATE",),
    "api_token": ("DELETE",),
    "schema_migration": ("INSERT", "UPDATE", "DELETE"),
}
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


def set_grants(database: Database) -> None:
    """Set all rights, as the owner of the tables. A database with a single role, such as the trial's, needs none."""
    with database.atomic():
        if len(database.execute_sql(_SEPARATE_ROLES).fetchall()) == 2:  # noqa: PLR2004  # both
            database.execute_sql(_GRANTS + _REVOKES)
