"""Migrations, constraints and rights of the database, and lost connections."""
# Owns database-constraints, database-migrations.

import contextlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import peewee
import psycopg2
import pytest

from app.domain.errors import DatabaseUnavailableError, SchemaMismatchError
from app.services.cards.issuing import Issuing
from app.storage import schema
from app.storage.database import Database
from tests.support.services.service import Service, question
from tests.support.tables import for_each
from trial.postgres import EmbeddedPostgres


def test_of_four_migrations_at_once_one_applies(postgres: EmbeddedPostgres) -> None:
    postgres.create_database("at_once")

    def run(_number: int) -> list[str]:
        lines: list[str] = []
        database = Database(postgres.url("at_once"), bulk=True)
        schema.migrate(database, lines.append)
        database.close()
        return lines

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(run, range(4)))
    assert sum("applied 0001_initial" in lines for lines in reports) == 1
    assert all(lines[-1] == f"schema is {schema.expected_version()}" for lines in reports)


def test_an_empty_database_is_refused_by_name(postgres: EmbeddedPostgres) -> None:
    postgres.create_database("empty")
    database = Database(postgres.url("empty"), on_connect=schema.check_version)
    with pytest.raises(SchemaMismatchError, match=r"schema is empty.*cardctl migrate"):
        database.connect()
    assert database.is_closed()


# Of a removed operator whose name sam has now, an entry is left; taobao's token is newer than its cards.
RELEASE_1_0 = """
INSERT INTO operator (id, name, role, password_hash, created_at, password_changed_at) VALUES
    (1, 'olga', 'owner', '$argon2id$', '2026-01-01', now()), (2, 'sam', 'seller', '$argon2id$', '2026-01-05', now());
INSERT INTO api_token VALUES (7, 'taobao', repeat('0', 64), '{cards:issue}', '2026-02-01');
INSERT INTO event (at, kind, actor) VALUES
    ('2026-01-02', 'issued', 'console:olga'), ('2026-01-03', 'issued', 'console:sam'),
    ('2026-01-06', 'issued', 'console:sam'), ('2026-01-07', 'issued', 'shop:taobao'),
    ('2026-01-08', 'issued', 'cardctl:root'), ('2026-01-09', 'imported', 'console:olga');
INSERT INTO card (id, created_at) SELECT lpad(id::text, 32, '0'), at FROM event;
"""


def test_the_accounts_of_release_1_0_are_kept_and_have_no_ceilings_but_the_cards_that_they_issued(
    postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.create_database("release_1_0")
    database = Database(postgres.url("release_1_0"), bulk=True)
    folder = Path(schema.__file__).with_name("migrations")
    for migration in sorted(folder.glob("*.sql"))[:4]:
        shutil.copy(migration, tmp_path)
    monkeypatch.setattr(schema, "_FOLDER", tmp_path)
    schema.migrate(database, lambda _line: None)
    database.execute_sql(RELEASE_1_0)
    monkeypatch.setattr(schema, "_FOLDER", folder)
    schema.migrate(database, lambda _line: None)
    operators = database.execute_sql("SELECT count(*) FROM operator").fetchone()
    token = database.execute_sql("SELECT name, own_cards_only, expires_at, networks FROM api_token").fetchall()
    ceilings = database.execute_sql("SELECT FROM ceiling").fetchall()
    owners = database.execute_sql("SELECT operator_id, token_id FROM card ORDER BY id").fetchall()
    database.execute_sql("DELETE FROM operator WHERE name = 'sam'")
    left = database.execute_sql("SELECT DISTINCT operator_id FROM card WHERE operator_id IS NOT NULL").fetchall()
    database.close()
    assert (operators, token, ceilings) == ((2,), [("taobao", False, None, None)], [])
    nobody = (None, None)
    assert owners == [(1, None), nobody, (2, None), (None, 7), nobody, nobody]
    assert left == [(1,)]


@pytest.fixture
def own_database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A migrated database whose history a test changes."""
    name = f"own_{uuid4().hex}"
    postgres.create_database(name)
    database = Database(postgres.url(name), bulk=True)
    schema.migrate(database, lambda _line: None)
    yield database
    database.close()


def test_a_newer_schema_is_used_and_not_migrated(own_database: Database) -> None:
    own_database.execute_sql("INSERT INTO schema_migration (name, applied) VALUES ('9999_future', now())")
    schema.check_version(own_database.connection())
    lines: list[str] = []
    schema.migrate(own_database, lines.append)
    assert lines == ["schema is 9999_future, newer than this program's, which runs on it"]


def test_the_database_of_a_version_between_the_releases_is_refused(own_database: Database) -> None:
    own_database.execute_sql("UPDATE schema_migration SET name = '0005_daily_counts' WHERE name = '0005_release_1_1'")
    own_database.execute_sql("INSERT INTO schema_migration (name, applied) VALUES ('0025_self_renew', now())")
    for refused in (schema.check_version, lambda _connection: schema.migrate(own_database, print)):
        with pytest.raises(SchemaMismatchError, match=r"0025_self_renew\): only commit [0-9a-f]{7} opens it"):
            refused(own_database.connection())


def test_a_migration_that_fails_leaves_nothing_of_itself(
    own_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = schema.expected_version()
    (tmp_path / "9998_half.sql").write_text("CREATE TABLE half (id int); SELECT '100%'; SELECT nonsense;")
    monkeypatch.setattr(schema, "_FOLDER", tmp_path)
    with pytest.raises(psycopg2.errors.UndefinedColumn):
        schema.migrate(own_database, print)
    assert schema.current_version(own_database.connection()) == found
    assert own_database.execute_sql("SELECT to_regclass('half')").fetchone() == (None,)


FORBIDDEN = {
    "an ID that is none": "UPDATE card SET id = 'x'",
    "activated without a time": "UPDATE card SET is_activated = true",
    "a time without activation": "UPDATE card SET activated_at = now()",
    "an expiry without activation": "UPDATE card SET expires_at = now()",
    "a timed card without an expiry": "UPDATE card SET is_activated = true, activated_at = now()",
    "no validity at all": "UPDATE card SET validity = interval '0'",
    "a client of no card": "INSERT INTO client SELECT repeat('1',32),'x', '', encode(sha256(''),'hex'), '', now(), ''",
    "a wrong digest": "INSERT INTO client SELECT repeat('1', 32), id, 'h', 'digest', '::1', now(), 'f' FROM card",
    "nobody's answer": "INSERT INTO idempotency_record VALUES (1, NULL, NULL, 'k', repeat('0', 64), 201, '', now())",
    # The last, since it switches foreign keys off.
    "an answer of two": "SET session_replication_role = replica;"
    "INSERT INTO idempotency_record VALUES (1, 1, 1, 'k', repeat('0', 64), 201, '', now())",
}


@for_each("statement", FORBIDDEN.values())
def test_the_database_refuses(database: Database, issuing: Issuing, statement: str) -> None:
    issuing.issue(1, timedelta(days=1))
    with pytest.raises(peewee.IntegrityError):
        database.execute_sql(statement)


def test_a_card_has_one_client_and_a_machine_one_card(database: Database, issuing: Issuing) -> None:
    first, second = (card.id for card in issuing.issue(2, None).cards)
    insert = "INSERT INTO client SELECT %s, %s, %s, encode(sha256(%s), 'hex'), '::1', now(), 'f'"
    database.execute_sql(insert, ("1" * 32, first, "h", b"h"))
    with pytest.raises(peewee.IntegrityError, match="client_card_id_key"):
        database.execute_sql(insert, ("2" * 32, first, "i", b"i"))
    with pytest.raises(peewee.IntegrityError, match="client_hardware_sha256_key"):
        database.execute_sql(insert, ("2" * 32, second, "h", b"h"))


def test_the_journal_is_append_only(database: Database, issuing: Issuing) -> None:
    issuing.issue(1, None)
    for statement in ["UPDATE event SET ip = 'x'", "DELETE FROM event", "TRUNCATE event"]:
        with pytest.raises(peewee.PeeweeException, match="append-only"):
            database.execute_sql(statement)


def lose_the_connection(database: Database) -> None:
    database.execute_sql("SELECT pg_terminate_backend(pg_backend_pid())")


def test_work_on_a_broken_kept_connection_is_repeated_but_a_transaction_only_begun_again(database: Database) -> None:
    started: list[int] = []

    def work() -> None:
        started.append(1)
        lose_the_connection(database)

    with pytest.raises(DatabaseUnavailableError):
        database.with_connection(work)
    assert len(started) == 2
    with pytest.raises(DatabaseUnavailableError), database.transact():
        lose_the_connection(database)
    pid = database.execute_sql("SELECT pg_backend_pid()").fetchone()[0]
    with contextlib.closing(database.open()) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 60000)", (pid,))  # returns when it is gone
    with database.transact():
        assert database.execute_sql("SELECT 1").fetchone() == (1,)


def test_draining_is_told_and_ends_with_a_start(own_service: Service) -> None:
    service = own_service
    (card_id,) = service.issue()
    service.cardctl("drain")
    answer = service.get("/readyz")
    assert (answer.status, answer.body["code"], "retry-after" in answer.headers) == (503, "UNAVAILABLE", True)
    assert service.verify(question(card_id)).status == service.get("/healthz").status == 200
    service.cardctl("drain", "--end")
    assert service.get("/readyz").status == 200
    service.cardctl("drain")
    service.stop()
    with service:
        assert service.get("/readyz").status == 200


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
        schema.set_grants(database)
        service, backup = has("kadun_app"), has("kadun_backup")
        transaction.rollback()
    assert len(service) > 10
    assert service == {table: {*RIGHTS[:4]} - {*schema.WITHHELD.get(table, ())} for table in service}
    assert service["event"] == {"SELECT", "INSERT", "DELETE"}
    assert set(map(frozenset, backup.values())) == {frozenset({"SELECT"})}
