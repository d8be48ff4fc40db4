"""Migrations, and what the database itself enforces."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import peewee
import pytest
from playhouse.migrations import Runner

from app.domain.codes import Code, EventKind
from app.domain.errors import DatabaseUnavailableError, SchemaMismatchError
from app.domain.policy import VerificationRequest
from app.services import housekeeping
from app.services.issuing import Issuing
from app.services.verification import Verification
from app.storage import journal, schema
from app.storage.database import Database
from app.storage.models import Card, Client, Event
from tests.conftest import Clock
from trial.postgres import EmbeddedPostgres


def test_four_migrations_at_once_are_one(postgres: EmbeddedPostgres) -> None:
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


def test_forms_and_orders_of_an_older_release_are_kept(postgres: EmbeddedPostgres) -> None:
    postgres.create_database("older")
    database = Database(postgres.url("older"), bulk=True)
    Runner(database, "app/storage/migrations", "schema_migration").up("0003_operators")
    database.execute_sql(
        "INSERT INTO operator VALUES (1, 'olga', 'owner', '$argon2id$', NULL, NULL, now(), now());"
        "INSERT INTO operator_form VALUES (repeat('a', 64), 1, '/admin/cards/issued?at=1', '2026-03-01Z');"
        "INSERT INTO api_token VALUES (7, 'taobao', repeat('0', 64), '{cards:issue}', now());"
        "INSERT INTO api_request VALUES (7, 'order-42', repeat('b', 64), 201, '{\"cards\": []}', '2026-03-02Z');"
    )
    schema.migrate(database, lambda _line: None)
    columns = "operator_id, token_id, key, left(request_sha256, 2), status, body::json, created_at::date::text"
    rows = database.execute_sql(f"SELECT {columns} FROM idempotency_record ORDER BY id").fetchall()  # noqa: S608  # ours
    database.close()
    assert rows == [
        (1, None, "a" * 64, "aa", 303, {"location": "/admin/cards/issued?at=1"}, "2026-03-01"),
        (None, 7, "order-42", "bb", 201, {"cards": []}, "2026-03-02"),
    ]


def test_an_empty_database_is_refused_by_name(postgres: EmbeddedPostgres) -> None:
    postgres.create_database("empty")
    database = Database(postgres.url("empty"), on_connect=schema.check_version)
    with pytest.raises(SchemaMismatchError, match=r"schema is empty.*cardctl migrate"):
        database.connect()
    assert database.is_closed()


def test_a_newer_database_is_not_migrated(database: Database, database_url: str) -> None:
    database.execute_sql("INSERT INTO schema_migration (name, applied) VALUES ('9999_future', now())")
    try:
        with pytest.raises(SchemaMismatchError, match="older than its database"):
            schema.migrate(Database(database_url, bulk=True), lambda _line: None)
    finally:
        database.execute_sql("DELETE FROM schema_migration WHERE name = '9999_future'")


FORBIDDEN = {
    "an ID that is none": "UPDATE card SET id = 'x'",
    "activated without a time": "UPDATE card SET is_activated = true",
    "a time without activation": "UPDATE card SET activated_at = now()",
    "an expiry without activation": "UPDATE card SET expires_at = now()",
    "a timed card without an expiry": "UPDATE card SET is_activated = true, activated_at = now()",
    "no validity at all": "UPDATE card SET validity = interval '0'",
    "a client of no card": "INSERT INTO client SELECT repeat('1',32),'x', '', encode(sha256(''),'hex'), '', now(), ''",
    "a wrong digest": "INSERT INTO client SELECT repeat('1', 32), id, 'h', 'digest', '::1', now(), 'f' FROM card",
}


@pytest.mark.parametrize("statement", FORBIDDEN.values(), ids=FORBIDDEN)
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


@pytest.mark.parametrize("statement", ["UPDATE event SET ip = 'x'", "DELETE FROM event", "TRUNCATE event"])
def test_the_journal_is_append_only(database: Database, issuing: Issuing, statement: str) -> None:
    issuing.issue(1, None)
    with pytest.raises(peewee.PeeweeException, match="append-only"):
        database.execute_sql(statement)


def test_only_old_rejections_and_downloads_are_pruned(
    verification: Verification, issuing: Issuing, clock: Clock
) -> None:
    card_id = issuing.issue(1, None).cards[0].id
    verification.verify(VerificationRequest.from_fields(card_id, "h", "f", "n" * 20, "198.51.100.1"))
    verification.verify(VerificationRequest.from_fields("0" * 32, "h", "f", "n" * 20, "198.51.100.1"))
    download = journal.Entry(at=clock.now, kind=EventKind.FILE_DOWNLOADED, card_id=card_id)
    journal.append([download, replace(download, kind=EventKind.FILE_ADDED)])
    clock.advance(timedelta(days=300))
    verification.verify(VerificationRequest.from_fields("0" * 32, "h", "f", "n" * 20, "198.51.100.1"))
    journal.append([replace(download, at=clock.now)])
    assert housekeeping.prune_journal(timedelta(days=365), clock.now) == 0
    clock.advance(timedelta(days=100))
    assert housekeeping.prune_journal(timedelta(days=365), clock.now) == 2
    left = [event.kind for event in Event.select().order_by(Event.id)]
    assert left == ["issued", "activated", "file_added", "rejected", "file_downloaded"]


@pytest.mark.parametrize("group", journal.BOUNDED_GROUPS, ids=str)
def test_refusals_are_counted_by_index(database: Database, group: tuple[Code, ...]) -> None:
    entry = journal.Entry(at=Clock().now, kind=EventKind.REJECTED, code=group[0], ip="198.51.100.1")
    # So many of this moment that only the address tells them apart; what other tests left is no guide to the planner.
    database.execute_sql(
        """INSERT INTO event (at, kind, code, ip, ip_network)
           SELECT %s, 'rejected', code, '203.0.113.' || i, '203.0.113.' || i
           FROM generate_series(1, 250) AS i, unnest(%s) AS code, generate_series(1, 4)""",
        (entry.at, [str(code) for code in Code if code is not Code.OK]),
    )
    database.execute_sql("ANALYZE event")
    sql, values = journal.recent_refusals(entry, group).sql()
    database.execute_sql("SET enable_seqscan = off")
    plan = "\n".join(row[0] for row in database.execute_sql(f"EXPLAIN {sql}", values).fetchall())
    assert re.search("Index Scan (using|on) event_network", plan)
    assert "Filter" not in plan


def test_a_verification_of_a_bound_card_is_two_statements_by_index(
    database: Database, verification: Verification, issuing: Issuing
) -> None:
    """What speed rests on: the number of statements, and their plans."""
    card_id = issuing.issue(1, None).cards[0].id
    question = VerificationRequest.from_fields(card_id, "h", "f", "n" * 20, "198.51.100.1")
    verification.verify(question)
    ran: list[str] = []
    run_prepared, execute_sql = database.run_prepared, database.execute_sql

    def noting(name: str, *arguments: object) -> tuple[object, ...] | None:
        ran.append(name)
        return run_prepared(name, *arguments)

    database.run_prepared = noting
    database.execute_sql = lambda *a, **k: (ran.append(str(a[0])), execute_sql(*a, **k))[1]
    verification.verify(question)
    assert ran == ["read_facts", "refresh"]
    client = Client.get()
    database.execute_sql("SET enable_seqscan = off")  # a table of one row is read whole otherwise
    digest = client.hardware_sha256
    refresh = f"'{client.id}', '{card_id}', '{digest}', '198.51.100.1', NULL, '198.51.100.1', now(), 'f', '2026-03-01'"
    for call in (f"EXECUTE read_facts('{card_id}', '{digest}')", f"EXECUTE refresh({refresh})"):
        plan = "\n".join(row[0] for row in execute_sql(f"EXPLAIN {call}").fetchall())
        assert "Index Scan" in plan
        assert "Seq Scan" not in plan
    assert Card.select().count() == 1


@pytest.mark.parametrize(("once", "runs"), [(False, 2), (True, 1)])
def test_work_whose_kept_connection_broke_is_run_again_unless_it_adds_up(
    database: Database, *, once: bool, runs: int
) -> None:
    started: list[int] = []

    def lose_the_connection() -> None:
        started.append(1)
        database.execute_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(DatabaseUnavailableError):
        database.with_connection(lose_the_connection, once=once)
    assert len(started) == runs
