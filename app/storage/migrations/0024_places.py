"""The places of which the journal has an entry, by card and day: going to and fro uses up no entries.

The figures of the console are counted anew: those of earlier programs have no number of places.
"""

from typing import Any

OLDEST = "0023_no_journal_seals"

STATEMENTS = """
ALTER TABLE daily_count ADD COLUMN places bigint[];
DELETE FROM figures;
"""


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql(STATEMENTS)
