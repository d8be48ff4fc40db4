"""The stored catalog, by which a change of the schema is read, and the tables that a backup must have are known."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.storage.database import Database
from trial.postgres import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "app/storage/catalog.txt"

# PostgreSQL 17 and 18 print these definitions alike; others were not tried. NOT NULL is part of a column's line, since
# only version 18 lists it as a constraint.
# Objects that belong to an extension, which a database's administrator may add, are not ours.
_CATALOG = """
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


def lines(database: Database) -> list[str]:
    """Return a line for each object of schema public, sorted."""
    return sorted(" ".join(line.split()) for (line,) in database.execute_sql(_CATALOG.replace("%", "%%")).fetchall())


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
    found = "".join(f"{line}\n" for line in lines(fresh))
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
    assert lines(fresh) == FILE.read_text("utf-8").splitlines()
