"""With which unused cards customers may renew their own: `off`, `batch` or `any`.

`on` becomes `any`, which is what it meant. The program before this one would read `off` as on: it may not run on this.
"""

from typing import Any

OLDEST = "0025_self_renew"

STATEMENTS = """
ALTER TABLE terms
    ALTER COLUMN self_renew TYPE text USING CASE WHEN self_renew THEN 'any' ELSE 'off' END,
    ADD CONSTRAINT terms_self_renew_check CHECK (self_renew IN ('off', 'batch', 'any'));
"""


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql(STATEMENTS)
