"""The rights of the service's and the backup's roles, as a migration sets them."""

from app.storage.database import Database
from app.storage.grants import WITHHELD, set_grants

TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")


def test_the_service_changes_what_it_must_and_the_backup_only_reads(database: Database) -> None:
    def has(role: str) -> dict[str, set[str]]:
        query = "SELECT has_table_privilege(%s, %s, %s)"
        return {
            table: {right for right in RIGHTS if database.execute_sql(query, (role, table, right)).fetchone()[0]}
            for (table,) in database.execute_sql(TABLES).fetchall()
        }

    with database.atomic() as transaction:  # roles are those of the whole cluster
        database.execute_sql("CREATE ROLE kadun_app; CREATE ROLE kadun_backup")
        set_grants(database)
        service, backup = has("kadun_app"), has("kadun_backup")
        transaction.rollback()
    assert len(service) > 10
    assert service == {table: {*RIGHTS[:4]} - {*WITHHELD.get(table, ())} for table in service}
    assert service["event"] == {"SELECT", "INSERT", "DELETE"}
    assert set(map(frozenset, backup.values())) == {frozenset({"SELECT"})}
