"""The database: migrations, constraints, rights, the stored catalog, lost connections, and plans of statements."""
# Owns database-constraints, database-migrations, database-plans.

import contextlib
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import peewee
import psycopg2
import pytest

from app.domain.codes import Code, EventKind
from app.domain.errors import DatabaseUnavailableError, SchemaMismatchError
from app.domain.licence.policy import VerificationRequest
from app.services.cards.issuing import Issuing
from app.services.licence.licence import Verification
from app.storage import journal, schema
from app.storage.batcher import MAX_CARDS, SESSION
from app.storage.database import Database
from app.storage.models import Client
from app.storage.statements import NEW_CLIENT
from tests.conftest import START, Clock
from tests.support.query_plans import nodes, plan, rows_looked_at, statements
from tests.support.services.service import ROOT, Service, question
from tests.support.tables import for_each
from trial.postgres import EmbeddedPostgres


@pytest.fixture
def empty_url(postgres: EmbeddedPostgres) -> str:
    """The URL of a new, empty database."""
    name = f"own_{uuid4().hex}"
    postgres.create_database(name)
    return postgres.url(name)


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    with contextlib.closing(Database(empty_url, bulk=True)) as database:
        yield database


@pytest.fixture
def migrated(empty: Database) -> Database:
    """A migrated database whose history a test changes."""
    schema.migrate(empty, lambda _line: None)
    return empty


def test_of_four_migrations_at_once_one_applies(empty_url: str) -> None:
    def run(_number: int) -> list[str]:
        lines: list[str] = []
        with contextlib.closing(Database(empty_url, bulk=True)) as database:
            schema.migrate(database, lines.append)
        return lines

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(run, range(4)))
    assert sum("applied 0001_initial" in lines for lines in reports) == 1
    assert all(lines[-1] == f"schema is {schema.expected_version()}" for lines in reports)


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


def test_release_1_0_keeps_accounts_and_cards(empty: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(schema.__file__).with_name("migrations")
    for migration in sorted(folder.glob("*.sql"))[:4]:
        shutil.copy(migration, tmp_path)
    monkeypatch.setattr(schema, "_FOLDER", tmp_path)
    schema.migrate(empty, lambda _line: None)
    empty.execute_sql(RELEASE_1_0)
    monkeypatch.setattr(schema, "_FOLDER", folder)
    schema.migrate(empty, lambda _line: None)

    def rows(query: str) -> list[tuple[object, ...]]:
        return list(empty.execute_sql(query).fetchall())

    assert rows("SELECT count(*) FROM operator") == [(2,)]
    assert rows("SELECT name, own_cards_only, expires_at, networks FROM api_token") == [("taobao", False, None, None)]
    assert rows("SELECT FROM ceiling") == []
    nobody = (None, None)
    owners = [(1, None), nobody, (2, None), (None, 7), nobody, nobody]
    assert rows("SELECT operator_id, token_id FROM card ORDER BY id") == owners
    empty.execute_sql("DELETE FROM operator WHERE name = 'sam'")
    assert rows("SELECT DISTINCT operator_id FROM card WHERE operator_id IS NOT NULL") == [(1,)]


def test_a_newer_schema_is_used_and_not_migrated(migrated: Database) -> None:
    migrated.execute_sql("INSERT INTO schema_migration (name, applied) VALUES ('9999_future', now())")
    schema.check_version(migrated.connection())
    lines: list[str] = []
    schema.migrate(migrated, lines.append)
    assert lines == ["schema is 9999_future, newer than this program's, which runs on it"]


def test_the_database_of_a_version_between_the_releases_is_refused(migrated: Database) -> None:
    migrated.execute_sql("UPDATE schema_migration SET name = '0005_daily_counts' WHERE name = '0005_release_1_1'")
    migrated.execute_sql("INSERT INTO schema_migration (name, applied) VALUES ('0025_self_renew', now())")
    for refused in (schema.check_version, lambda _connection: schema.migrate(migrated, print)):
        with pytest.raises(SchemaMismatchError, match=r"0025_self_renew\): only commit [0-9a-f]{7} opens it"):
            refused(migrated.connection())


def test_a_failed_migration_leaves_nothing(migrated: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = schema.expected_version()
    (tmp_path / "9998_half.sql").write_text("CREATE TABLE half (id int); SELECT '100%'; SELECT nonsense;")
    monkeypatch.setattr(schema, "_FOLDER", tmp_path)
    with pytest.raises(psycopg2.errors.UndefinedColumn):
        schema.migrate(migrated, print)
    assert schema.current_version(migrated.connection()) == found
    assert migrated.execute_sql("SELECT to_regclass('half')").fetchone() == (None,)


CLIENT = (
    "INSERT INTO client SELECT repeat('{}', 32), {}, '{}', encode(sha256('{}'), 'hex'), '::1', now(), 'f' FROM card"
)
ANSWER = "INSERT INTO idempotency_record VALUES (1, {}, 'k', repeat('0', 64), 201, '', now())"
FORBIDDEN = (
    ("card_id_check", "UPDATE card SET id = 'x'"),
    ("card_activated", "UPDATE card SET is_activated = true"),
    ("card_activated", "UPDATE card SET activated_at = now()"),
    ("card_expiry", "UPDATE card SET expires_at = now()"),
    ("card_expiry", "UPDATE card SET is_activated = true, activated_at = now()"),
    ("card_validity_check", "UPDATE card SET validity = interval '0'"),
    ("client_card_id_fkey", CLIENT.format(2, "max('x')", "i", "i")),
    ("client_card_id_key", CLIENT.format(2, "min(id)", "i", "i")),
    ("client_hardware_sha256_key", CLIENT.format(2, "max(id)", "h", "h")),
    ("client_check", CLIENT.format(2, "max(id)", "i", "another")),
    ("client_card_id_fkey", "UPDATE client SET program = 'b'"),
    ("program_data_key", "INSERT INTO program (id, name, created_at) VALUES ('b', 'b', now())"),
    ("file_name_check", "INSERT INTO file (name, size, sha256, added_at) VALUES ('../a', 0, repeat('a', 64), now())"),
    ("append-only", "UPDATE event SET ip = 'x'"),
    ("append-only", "DELETE FROM event"),
    ("append-only", "TRUNCATE event"),
    ("idempotency_record_owner", ANSWER.format("NULL, NULL")),
    # The last, since it switches foreign keys off.
    ("idempotency_record_owner", f"SET session_replication_role = replica; {ANSWER.format('1, 1')}"),
)


@pytest.fixture
def bound(database: Database, issuing: Issuing) -> None:
    """Two cards, of which one is bound."""
    issuing.issue(2, timedelta(days=1))
    database.execute_sql(CLIENT.format(1, "min(id)", "h", "h"))


@for_each("constraint, statement", FORBIDDEN)
def test_what_breaks_a_constraint_is_refused(database: Database, bound: None, constraint: str, statement: str) -> None:
    with pytest.raises(peewee.PeeweeException, match=constraint):
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


CATALOG = ROOT / "app/storage/catalog.txt"

# PostgreSQL 17 and 18 print these definitions alike; others were not tried. NOT NULL is part of a column's line, since
# only version 18 lists it as a constraint.
# Objects that belong to an extension, which a database's administrator may add, are not ours.
CATALOG_QUERY = """
WITH relation AS (
    SELECT c.oid, c.relname, c.relkind, c.reloptions FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
)
SELECT 'table ' || relname || coalesce(' ' || array_to_string(reloptions, ','), '')
FROM relation WHERE relkind IN ('r', 'p', 'f', 'v', 'm')
UNION ALL
SELECT format('column %s.%s %s%s%s%s', relname, attname, format_type(atttypid, atttypmod),
    CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END,
    CASE WHEN attidentity <> '' THEN ' IDENTITY' ELSE '' END,
    coalesce(' DEFAULT ' || pg_get_expr(adbin, adrelid), ''))
FROM relation JOIN pg_attribute ON attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relkind IN ('r', 'p', 'f')
UNION ALL
SELECT format('constraint %s.%s %s', relname, conname, pg_get_constraintdef(pg_constraint.oid))
FROM relation JOIN pg_constraint ON conrelid = relation.oid AND contype <> 'n'
UNION ALL
SELECT format('index %s.%s %s%s', indrelid::regclass, relname, pg_get_indexdef(indexrelid),
    CASE WHEN indisvalid AND indisready THEN '' ELSE ' INVALID' END)
FROM relation JOIN pg_index ON indexrelid = relation.oid
UNION ALL
SELECT format('trigger %s.%s %s %s', relname, tgname, tgenabled, pg_get_triggerdef(pg_trigger.oid))
FROM relation JOIN pg_trigger ON tgrelid = relation.oid AND NOT tgisinternal
UNION ALL
SELECT format('statistics %s %s', stxname, pg_get_statisticsobjdef(oid))
FROM pg_statistic_ext WHERE stxnamespace = 'public'::regnamespace
UNION ALL
SELECT format('function %s(%s) %s', proname, pg_get_function_identity_arguments(p.oid), md5(prosrc))
FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
"""


def test_the_stored_catalog_is_what_the_migrations_make(migrated: Database) -> None:
    lines = migrated.execute_sql(CATALOG_QUERY.replace("%", "%%")).fetchall()  # a line for each object of schema public
    found = "".join(sorted(" ".join(line.split()) + "\n" for (line,) in lines))
    if found != CATALOG.read_text("utf-8"):
        new = ROOT / "test-artifacts/catalog.txt"
        new.parent.mkdir(exist_ok=True)
        new.write_text(found, "utf-8")
        pytest.fail(f"read the difference, then: cp {new.relative_to(ROOT)} {CATALOG.relative_to(ROOT)}")


MANY = 10_000
_MANY_CARDS = """
SET session_replication_role = replica;
INSERT INTO card (id, validity, is_activated, activated_at, expires_at, created_at)
SELECT lpad(i::text, 32, '0'), '30 days', true, %(at)s, %(at)s + interval '30 days', %(at)s
FROM generate_series(1, %(many)s) AS i;
INSERT INTO client (id, card_id, hardware, hardware_sha256, ip, requested_at, function)
SELECT id, id, id, encode(sha256(convert_to(id, 'UTF8')), 'hex'), '198.51.100.1', %(at)s, 'f' FROM card;
INSERT INTO usage (card_id, day, function, count, last_at) SELECT id, %(day)s, 'f', 1, %(at)s FROM card;
SET session_replication_role = DEFAULT;
"""
"""Bound cards, written without the checks of foreign keys, which would take most of the time."""


def test_recent_refusals_are_counted_by_index(database: Database) -> None:
    entry = journal.Entry(at=Clock().now, kind=EventKind.REJECTED, code=Code.CARD_NOT_FOUND, ip="198.51.100.1")
    # So many of this moment that only the address tells them apart; what other tests left is no guide to the planner.
    database.execute_sql(
        """INSERT INTO event (at, kind, code, ip, ip_network)
           SELECT %s, 'rejected', code, '203.0.113.' || i, '203.0.113.' || i
           FROM generate_series(1, 250) AS i, unnest(%s) AS code, generate_series(1, 4)""",
        (entry.at, [str(code) for code in Code if code is not Code.OK]),
    )
    database.execute_sql("ANALYZE event")
    database.execute_sql("SET enable_seqscan = off")
    told = plan(database, journal.recent_refusals(entry).sql())
    assert re.search("Index Scan (using|on) event_network", told)
    assert "Filter" not in told


def test_the_stock_of_refusals_has_an_index_of_its_own(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "STOCK", 100)
    database.execute_sql(
        """INSERT INTO event (at, kind, code) SELECT %s + i * interval '1 second', 'rejected', code
           FROM generate_series(1, 2000) AS i, unnest(%s) AS code""",
        (START, [str(code) for code in Code if code is not Code.OK]),
    )
    database.execute_sql("ANALYZE event")
    with statements(database) as ran:
        oldest = journal.beginning_of_stock()
        assert oldest == START + timedelta(seconds=1951)
        journal.prune_strangers(oldest)
    beginning, pruning = ran
    assert rows_looked_at(database, beginning) == 100
    assert "event_strangers" in plan(database, pruning)


@pytest.fixture
def ran(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """This thread's statements from now on: prepared ones by name, all others as they are."""
    ran: list[str] = []
    here = threading.get_ident()

    def noting(run: Callable[..., Any], statement: str, *arguments: object) -> Any:
        if threading.get_ident() == here:  # others read the terms again every second
            ran.append(statement)
        return run(statement, *arguments)

    for name in ("run_prepared", "execute_sql"):
        monkeypatch.setattr(database, name, partial(noting, getattr(database, name)))
    return ran


def test_a_first_activation_is_written_by_one_statement_and_a_later_verification_is_one_by_index(
    database: Database, verification: Verification, issuing: Issuing, ran: list[str]
) -> None:
    card_id = issuing.issue(1_000, None).cards[0].id  # of a few rows any index is as good
    database.execute_sql("ANALYZE card")
    question = VerificationRequest.from_fields(card_id, "h", "f", "n" * 20, "198.51.100.1")
    for expected in (["touch", "read_facts", "create_client"], ["touch"]):
        ran.clear()
        verification.verify(question)
        assert ran == expected
    # A table of one row is read whole otherwise, also by a plan of the tests before.
    database.execute_sql("SET enable_seqscan = off")
    database.execute_sql("DISCARD PLANS")
    digest = question.hardware_sha256
    values = ", ".join("NULL" if name != "card" else f"'{card_id}'" for name in NEW_CLIENT)
    touch = f"'{{{card_id}}}', '{{{digest}}}', '{{198.51.100.1}}', '{{f}}', '{{main}}', '{{1}}', '2026-03-01', now()"
    for call in (f"create_client({values})", f"read_facts('{card_id}', '{digest}', 'main')", f"touch({touch})"):
        told = plan(database, (f"EXECUTE {call}", None))
        assert ("Index Scan" in told, "Seq Scan" in told) == (True, False), call
        assert "create_client" not in call or "Index Scan using card_pkey" in told


def test_touching_cards_reads_by_index_these_cards_only_and_locks_them_in_order(database: Database) -> None:
    database.execute_sql("SET statement_timeout = 0")  # a busy machine may take long to write them
    database.execute_sql(_MANY_CARDS, {"at": START, "day": START.date(), "many": MANY})
    for name, value in SESSION.items():
        database.execute_sql(f"SET {name} = '{value}'")
    found = list(Client.select(Client.card, Client.hardware_sha256).order_by(Client.card).limit(MAX_CARDS).tuples())
    # Without statistics, or with those that other tests left, the planner may begin with the day's usage.
    database.execute_sql("ANALYZE card, client, usage")
    for cards in (1, MAX_CARDS):
        ids, digests = (list(column) for column in zip(*found[:cards], strict=True))
        of_each = ("198.51.100.1", "f", "main", 1)
        values = (ids, digests, *([value] * cards for value in of_each), START.date(), START)
        statement = ("EXECUTE touch(%s, %s, %s, %s, %s, %s, %s, %s)", values)
        steps = nodes(database, statement)
        assert {step["Node Type"] for step in steps if "Relation Name" in step} == {"ModifyTable", "Index Scan"}
        assert not {"Hash Join", "Merge Join"} & {step["Node Type"] for step in steps}
        assert rows_looked_at(database, statement) < 20 * cards
        assert [row[0] for row in database.run_prepared("touch", *values)] == ids
