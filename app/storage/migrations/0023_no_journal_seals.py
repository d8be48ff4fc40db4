"""Remove the seals of the journal: a copy of the journal on another machine shows more."""

from typing import Any

OLDEST = "0023_no_journal_seals"

STATEMENTS = """
DROP TABLE journal_seal;
DROP FUNCTION journal_seal_is_append_only();
"""


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql(STATEMENTS)
