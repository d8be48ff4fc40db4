"""The keys that imported cards have in the system that they came from."""

from typing import Any

# By bytes, so that the index finds beginnings, too.
STATEMENTS = """
ALTER TABLE card ADD COLUMN imported_key text CHECK (length(imported_key) BETWEEN 6 AND 64);
CREATE UNIQUE INDEX card_imported_key ON card (imported_key COLLATE "C") WHERE imported_key IS NOT NULL;
"""


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql(STATEMENTS)
