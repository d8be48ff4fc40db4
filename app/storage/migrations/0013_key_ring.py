"""The signing keys of several machines: one key ring in the database, encrypted to a key outside it."""

from typing import Any

STATEMENTS = """
CREATE TABLE key_ring (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kids text[] NOT NULL CHECK (cardinality(kids) >= 2),
    sealed text NOT NULL CHECK (starts_with(sealed, '-----BEGIN AGE ENCRYPTED FILE-----')),
    moved_at timestamptz,
    replaced_at timestamptz
);
CREATE UNIQUE INDEX key_ring_in_use ON key_ring ((true)) WHERE replaced_at IS NULL;
"""


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql(STATEMENTS)
