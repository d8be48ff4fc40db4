"""The database as commands open it; the handle that services are made with."""

from collections.abc import Callable

import peewee

from app.storage import schema
from app.storage.database import Database, connect_to

__all__ = ["Database", "DatabaseRefusedError", "connect", "migrate"]

DatabaseRefusedError = peewee.PeeweeException
"""The database did not accept a statement."""


def connect(url: str, host: str) -> Database:
    """Connect this process, on `host`, to a database whose schema is checked; statements have no time limit."""
    return connect_to(Database(url, on_connect=schema.check_version, bulk=True, host=host))


def migrate(url: str, host: str, say: Callable[[str], None]) -> None:
    """Bring the schema of a database up to date, from this host; `say` is called with each step."""
    schema.migrate(connect_to(Database(url, bulk=True, host=host)), say)
