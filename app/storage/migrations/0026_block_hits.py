"""Hits of a block are the journal's entries that name it, counted when they are shown."""

from typing import Any

OLDEST = "0026_block_hits"


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql("ALTER TABLE block DROP COLUMN hits, DROP COLUMN last_hit_at")
