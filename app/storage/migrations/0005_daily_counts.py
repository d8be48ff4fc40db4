"""Bounds what one card can write: each day's first entries of a kind stay whole, all are counted."""

from typing import Any

# No foreign key: like the journal, the counts outlive a card.
STATEMENTS = """
CREATE TABLE daily_count (
    card_id text NOT NULL,
    day date NOT NULL,
    kind text NOT NULL,
    count bigint NOT NULL CHECK (count > 0),
    last_at timestamptz NOT NULL,
    PRIMARY KEY (card_id, day, kind)
);
CREATE INDEX daily_count_day ON daily_count (day, kind);

CREATE OR REPLACE FUNCTION event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the journal is append-only: only old rejections, downloads, refused log-ins and '
        'environment changes are ever pruned';
END $$;
DROP TRIGGER event_no_delete ON event;
CREATE TRIGGER event_no_delete BEFORE DELETE ON event
    FOR EACH ROW WHEN (OLD.kind NOT IN ('rejected', 'file_downloaded', 'login_refused', 'environment_changed'))
    EXECUTE FUNCTION event_is_append_only();

DELETE FROM figures;  -- an older release's lack the accepted changes
"""


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql(STATEMENTS)
