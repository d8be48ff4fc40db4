"""Recovery codes of two-step verification."""

from typing import Any

STATEMENTS = """
CREATE TABLE recovery_code (
    operator_id integer NOT NULL REFERENCES operator (id) ON DELETE CASCADE,
    code_sha256 text NOT NULL CHECK (code_sha256 ~ '^[0-9a-f]{64}$'),
    PRIMARY KEY (operator_id, code_sha256)
);
"""


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql(STATEMENTS)
