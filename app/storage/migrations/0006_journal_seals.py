"""Seals of the journal: what was in it, signed."""

from typing import Any

STATEMENTS = """
CREATE TABLE journal_seal (
    number bigint PRIMARY KEY CHECK (number > 0),
    last_event bigint NOT NULL UNIQUE,
    digests bytea NOT NULL,
    token text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE FUNCTION journal_seal_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'seals of the journal are never changed';
END $$;
CREATE TRIGGER journal_seal_no_change BEFORE UPDATE OR DELETE ON journal_seal
    FOR EACH ROW EXECUTE FUNCTION journal_seal_is_append_only();
CREATE TRIGGER journal_seal_no_truncate BEFORE TRUNCATE ON journal_seal
    FOR EACH STATEMENT EXECUTE FUNCTION journal_seal_is_append_only();
"""


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql(STATEMENTS)
