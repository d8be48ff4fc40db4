"""Lets the entries about cards that owners viewed be pruned: a stolen session adds one for each card a day."""

from typing import Any

STATEMENTS = """
CREATE OR REPLACE FUNCTION event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the journal is append-only: only old rejections, downloads, refused log-ins, '
        'environment changes and views of cards are ever pruned';
END $$;
DROP TRIGGER event_no_delete ON event;
CREATE TRIGGER event_no_delete BEFORE DELETE ON event FOR EACH ROW
    WHEN (OLD.kind NOT IN ('rejected', 'file_downloaded', 'login_refused', 'environment_changed', 'key_shown'))
    EXECUTE FUNCTION event_is_append_only();
"""


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql(STATEMENTS)
