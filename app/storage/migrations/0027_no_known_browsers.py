"""Remove the browsers that operators have logged in with: failures count by network and name alone."""

from typing import Any

OLDEST = "0027_no_known_browsers"


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql("DROP TABLE operator_device")
