"""Migrations, the constraints of the database, and lost connections."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import peewee
import pytest
from playhouse.migrations import Migration, Runner

from app.domain.errors import DatabaseUnavailableError, SchemaMismatchError
from app.services.issuing import Issuing
from app.storage import schema
from app.storage.database import Database
from tests.support.service import Service, question
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


def test_the_database_refuses(database: Database, issuing: Issuing) -> None:
    for statement in FORBIDDEN.values():
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
    for statement in ["UPDATE event SET ip = 'x'", "DELETE FROM event", "TRUNCATE event"]:
        issuing.issue(1, None)
        with pytest.raises(peewee.PeeweeException, match="append-only"):
            database.execute_sql(statement)


@pytest.mark.parametrize(("once", "runs"), [(False, 2), (True, 1)])
def test_work_on_a_broken_kept_connection_is_repeated_unless_told_otherwise(
    database: Database, *, once: bool, runs: int
) -> None:
    started: list[int] = []

    def lose_the_connection() -> None:
        started.append(1)
        database.execute_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(DatabaseUnavailableError):
        database.with_connection(lose_the_connection, once=once)
    assert len(started) == runs


@pytest.fixture
def newer(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A database whose schema is that of the program after this one, which lets this program run."""
    name = f"newer_{uuid4().hex}"
    postgres.create_database(name)
    database = Database(postgres.url(name), bulk=True)
    schema.migrate(database, lambda _line: None)
    database.execute_sql("INSERT INTO schema_migration (name, applied) VALUES ('9998_more', now())")
    database.execute_sql("UPDATE schema_tolerance SET newest = '9998_more'")
    yield database
    database.close()


def test_a_newer_schema_is_used_where_it_lets_this_program_run(newer: Database) -> None:
    schema.check_version(newer.connection())
    for unsuitable in ("newest = '9997_less'", "newest = '9998_more', oldest = '9998_more'"):
        newer.execute_sql(f"UPDATE schema_tolerance SET {unsuitable}")  # noqa: S608  # the two above
        with pytest.raises(SchemaMismatchError, match=r"is 9998_more, .*older than its database"):
            schema.check_version(newer.connection())
    newer.execute_sql("DELETE FROM schema_tolerance")
    with pytest.raises(SchemaMismatchError, match=r"is 9998_more, .*older than its database"):
        schema.check_version(newer.connection())


def test_a_tolerant_newer_schema_is_not_migrated_and_keeps_its_rights(newer: Database) -> None:
    lines: list[str] = []
    schema.migrate(newer, lines.append)
    assert lines == ["schema is 9998_more, newer than this program's, which may run on it"]
    newer.execute_sql("UPDATE schema_tolerance SET oldest = '9998_more'")
    with pytest.raises(SchemaMismatchError):
        schema.migrate(newer, lines.append)


def test_programs_that_a_migration_shuts_out_are_so_before_it_begins(
    newer: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer.execute_sql("DELETE FROM schema_migration WHERE name = '9998_more'")
    seen: list[str] = []
    monkeypatch.setattr(schema, "oldest_program", lambda: "9999_next")

    def up(_runner: Runner) -> list[str]:
        seen.append(newer.execute_sql("SELECT oldest FROM schema_tolerance").fetchone()[0])
        return []

    monkeypatch.setattr(Runner, "up", up)
    schema.migrate(newer, lambda _line: None)
    assert seen == ["9999_next"]


def test_each_migration_since_then_names_the_oldest_program_that_may_run_on_it() -> None:
    names = [migration.name for migration in Migration.load_directory("app/storage/migrations")]
    for migration in Migration.load_directory("app/storage/migrations"):
        if migration.name >= "0020_tolerance":
            assert migration.load().OLDEST in names[names.index("0020_tolerance") : names.index(migration.name) + 1]
    assert schema.oldest_program() <= schema.expected_version()


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
