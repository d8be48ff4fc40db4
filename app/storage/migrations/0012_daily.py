"""A vendor's daily work: how many of their own customers' cards a seller may unbind and move in a day."""

from typing import Any

STATEMENTS = """
ALTER TABLE operator ADD COLUMN changes_per_day integer CHECK (changes_per_day >= 0);
DELETE FROM figures;  -- an older release's lack the customers
"""


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql(STATEMENTS)
