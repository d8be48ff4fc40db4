"""Locks that a session of the database holds until it ends."""

from app.storage.database import Database


def hold(database: Database, name: str) -> bool:
    """Take the lock of this name for this connection, if it is free, and tell whether the connection has it."""
    # One that the connection has already is counted again, which changes nothing.
    sql = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
    is_held: bool = database.execute_sql(sql, (f"kadun {name}",)).fetchone()[0]
    return is_held


def limit_statements(database: Database, seconds: float) -> None:
    """Have this connection's statements broken off after so many seconds."""
    database.execute_sql("SELECT set_config('statement_timeout', %s, false)", (f"{round(seconds * 1000)}ms",))
