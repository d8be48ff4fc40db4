"""The stored catalog, by which a change of the schema is read, and the tables that a backup must have are known."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.storage.database import Database
from tests.support import catalog
from trial.postgres import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "app/storage/catalog.txt"


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
    if found != FILE.read_text("utf-8"):
        new = ROOT / "test-artifacts/catalog.txt"
        new.parent.mkdir(exist_ok=True)
        new.write_text(found, "utf-8")
        pytest.fail(f"read the difference, then: cp {new.relative_to(ROOT)} {FILE.relative_to(ROOT)}")


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
    assert catalog.lines(fresh) == FILE.read_text("utf-8").splitlines()
