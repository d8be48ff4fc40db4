"""The catalog that `cardctl doctor` compares a database with."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.storage import catalog
from app.storage.catalog import CatalogDifference
from app.storage.database import Database
from tests.support.tables import for_each
from trial.postgres import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fresh(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A database of its own, as the migrations make it."""
    server = Database(postgres.url("postgres"), bulk=True)
    server.execute_sql("CREATE DATABASE catalog TEMPLATE kadun")
    owner = Database(postgres.url("catalog"), bulk=True)
    yield owner
    owner.close()
    server.execute_sql("DROP DATABASE catalog WITH (FORCE)")
    server.close()


def test_the_stored_catalog_is_what_the_migrations_make(fresh: Database) -> None:
    found = "".join(f"{line}\n" for line in catalog.lines(fresh))
    if found != catalog.FILE.read_text("utf-8"):
        new = ROOT / "test-artifacts/catalog.txt"
        new.parent.mkdir(exist_ok=True)
        new.write_text(found, "utf-8")
        pytest.fail(f"read the difference, then: cp {new.relative_to(ROOT)} {catalog.FILE.relative_to(ROOT)}")


def test_a_restored_dump_has_the_same_catalog(
    fresh: Database, postgres: EmbeddedPostgres, postgres_binaries: Path
) -> None:
    (dump,) = postgres_binaries.rglob("bin/pg_dump")
    command = (dump, "--no-owner", "--no-privileges", "--dbname", postgres.url("catalog"))
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    fresh.execute_sql("DROP SCHEMA public CASCADE")
    subprocess.run(
        (dump.with_name("psql"), "-qX", "-v", "ON_ERROR_STOP=1", postgres.url("catalog")),
        check=True, input=f"CREATE SCHEMA public;\n{text.replace('CREATE SCHEMA public;', '')}", text=True,
    )  # fmt: skip
    assert catalog.difference(fresh) == CatalogDifference()


@for_each(
    "statement, missing, changed, foreign",
    [
        ("ALTER TABLE card ADD COLUMN colour text", (), (), ("column card.colour",)),
        ("ALTER TABLE card DROP COLUMN note CASCADE", ("column card.note",), (), ()),
        ("ALTER TABLE card ALTER COLUMN created_at DROP NOT NULL", (), ("column card.created_at",), ()),
        ("ALTER TABLE figures ALTER COLUMN id DROP DEFAULT", (), ("column figures.id",), ()),
        ("DROP INDEX card_batch", ("index card.card_batch",), (), ()),
        ("CREATE INDEX mine ON card (note)", (), (), ("index card.mine",)),
        ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'event_at'::regclass", (), ("index event.event_at",), ()),  # noqa: E501
        ("ALTER TABLE client DROP CONSTRAINT client_card_id_fkey", ("constraint client.client_card_id_fkey",), (), ()),
        (
            "ALTER TABLE usage DROP CONSTRAINT usage_count_check, ADD CONSTRAINT usage_count_check CHECK (count > -9)",
            (),
            ("constraint usage.usage_count_check",),
            (),
        ),
        ("DROP TRIGGER event_no_update ON event", ("trigger event.event_no_update",), (), ()),
        ("ALTER TABLE event DISABLE TRIGGER event_no_update", (), ("trigger event.event_no_update",), ()),
        (
            "CREATE OR REPLACE FUNCTION event_is_append_only() RETURNS trigger AS 'BEGIN END' LANGUAGE plpgsql",
            (),
            ("function event_is_append_only()",),
            (),
        ),
        ("DROP STATISTICS event_who", ("statistics event_who",), (), ()),
        ("CREATE VIEW mine AS SELECT 1 AS one", (), (), ("table mine",)),
        ("CREATE SCHEMA other; CREATE TABLE other.card (id text)", (), (), ()),
        ("CREATE EXTENSION pg_stat_statements", (), (), ()),
    ],
)  # fmt: skip
def test_what_differs_is_named(
    fresh: Database, statement: str, missing: tuple[str, ...], changed: tuple[str, ...], foreign: tuple[str, ...]
) -> None:
    with fresh.atomic() as transaction:
        fresh.execute_sql(statement)
        found = catalog.difference(fresh)
        transaction.rollback()
    assert set(missing) <= set(found.missing)
    assert (found.changed, found.foreign) == (changed, foreign)
    assert bool(found.missing) == bool(missing)
