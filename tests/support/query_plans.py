"""The statements that code runs, and how PostgreSQL executes them."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from app.storage.database import Database


@contextlib.contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, object]]]:
    """The statements that run in the block, with their values; but for the terms, which a thread reads every second."""
    ran: list[tuple[str, object]] = []
    execute_sql = database.execute_sql

    def noting(sql: str, params: object = None) -> object:
        if threading.current_thread().name != "polled":
            ran.append((sql, params))
        return execute_sql(sql, params)

    database.execute_sql = noting  # type: ignore[method-assign]
    try:
        yield ran
    finally:
        database.execute_sql = execute_sql  # type: ignore[method-assign]


def plan(database: Database, statement: tuple[str, object]) -> str:
    sql, values = statement
    return "\n".join(row[0] for row in database.execute_sql(f"EXPLAIN {sql}", values).fetchall())


def blocks_read(database: Database, statement: tuple[str, object], index: str) -> int:
    (scan,) = [node for node in nodes(database, statement) if node.get("Index Name") == index]
    return int(scan["Shared Hit Blocks"] + scan["Shared Read Blocks"])


def rows_looked_at(database: Database, statement: tuple[str, object]) -> int:
    """How many rows its scans of tables and indexes looked at, those that were left out too."""
    scans = [node for node in nodes(database, statement) if "Scan" in node["Node Type"]]
    return sum(
        int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]) for node in scans
    )


def nodes(database: Database, statement: tuple[str, object]) -> list[dict[str, Any]]:
    sql, values = statement
    ((told,),) = database.execute_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", values).fetchall()
    nodes = [told[0]["Plan"]]
    for node in nodes:
        nodes += node.get("Plans", [])
    return nodes
