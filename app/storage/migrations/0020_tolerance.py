"""Upgrades of one machine after the other: programs older than the schema that may still run on it."""

from typing import Any

OLDEST = "0020_tolerance"
"""The last migration of the oldest program that may run on this schema (docs/migrations.md)."""

STATEMENTS = """
CREATE TABLE schema_tolerance (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    newest text NOT NULL,
    oldest text NOT NULL
);
INSERT INTO schema_tolerance (newest, oldest) VALUES ('0020_tolerance', '0020_tolerance');
"""


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql(STATEMENTS)
