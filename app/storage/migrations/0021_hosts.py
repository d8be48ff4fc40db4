"""The machines that serve this database: each reports itself every few seconds.

`host_job` says which of them made the last backup and the last verification; scripts/lib/jobs.sh writes it.
"""

from typing import Any

OLDEST = "0020_tolerance"

STATEMENTS = """
CREATE TABLE host (
    name text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 57),
    version text NOT NULL,
    schema text NOT NULL,
    kid text,
    functions_sha256 text,
    clock_offset_ms integer NOT NULL,
    seen_at timestamptz NOT NULL
);
CREATE TABLE host_job (
    name text PRIMARY KEY,
    host text NOT NULL,
    done_at timestamptz NOT NULL
);
"""


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql(STATEMENTS)
