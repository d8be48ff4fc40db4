"""The database as commands open it; the handle that services are made with."""

from collections.abc import Callable

import peewee

from app.storage import schema
from app.storage.database import Database, connect_to

__all__ = ["Database", "DatabaseRefusedError", "connect", "migrate"]

DatabaseRefusedError = peewee.PeeweeException
"""The database did not accept a statement."""


def connect(url: str) -> Database:
    """Connect this process to a database whose schema is checked; statements have no time limit."""
    return connect_to(Database(url, on_connect=schema.check_version, bulk=True))


def migrate(url: str, say: Callable[[str], None]) -> None:
    """Bring the schema of a database up to date; `say` is called with each step."""
    schema.migrate(connect_to(Database(url, bulk=True)), say)
