"""Bounds of what clients make the journal store.

The environments of which the journal has an entry, by card and day: going to and fro uses up none. An index leads to
the oldest refusals and refused log-ins of strangers; the upgrade to 0023 stops all machines, so it may be made at once.
The figures of the console are counted anew: those of earlier programs have no number of places.
Entries about cards that owners viewed (`key_shown`), which only development versions wrote, go.
"""

from typing import Any

OLDEST = "0023_no_journal_seals"

STATEMENTS = """
ALTER TABLE daily_count ADD COLUMN environments bigint[];
CREATE INDEX event_strangers ON event (at)
    WHERE COALESCE(code, kind) IN ('CARD_NOT_FOUND', 'CLIENT_BLOCKED', 'login_refused');
DELETE FROM figures;
DELETE FROM event WHERE kind = 'key_shown';
CREATE OR REPLACE FUNCTION event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the journal is append-only: only old rejections, downloads, refused log-ins and '
        'environment changes are ever pruned';
END $$;
DROP TRIGGER event_no_delete ON event;
CREATE TRIGGER event_no_delete BEFORE DELETE ON event FOR EACH ROW
    WHEN (OLD.kind NOT IN ('rejected', 'file_downloaded', 'login_refused', 'environment_changed'))
    EXECUTE FUNCTION event_is_append_only();
"""


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql(STATEMENTS)
