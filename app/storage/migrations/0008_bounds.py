"""Bounds of what a stolen session, token or password of the database adds to the journal."""

from typing import Any

# The journal is sealed in the order of its IDs, from 1 upwards. The constraint is not checked against the rows that are
# there: a large journal would be locked meanwhile, and `events verify` names a row that it would refuse.
STATEMENTS = """
ALTER TABLE issue_count
    ADD COLUMN changed bigint NOT NULL DEFAULT 0 CHECK (changed >= 0),
    DROP CONSTRAINT issue_count_cards_check,
    ADD CONSTRAINT issue_count_cards_check CHECK (cards >= 0);
ALTER TABLE event ADD CONSTRAINT event_id CHECK (id > 0) NOT VALID;
"""


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql(STATEMENTS)
