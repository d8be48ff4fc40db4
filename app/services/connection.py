"""The database as commands open it; the handle that services are made with."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import peewee

from app.storage import schema
from app.storage.database import Database, connect_to

__all__ = ["Database", "DatabaseRefusedError", "connect", "migrate"]

DatabaseRefusedError = peewee.PeeweeException
"""The database did not accept a statement."""


def connect(url: str, host: str, name: str | None = None) -> Database:
    """Connect this process to a database whose schema is checked, without a limit on a statement's time.

    Args:
        url: Of the database.
        host: This machine's name.
        name: Of another one on the same server, a backup that is being checked. It is read only and untrusted: its
            tables may be views that run functions.
    """
    if name is None:
        return connect_to(Database(url, on_connect=schema.check_version, bulk=True, host=host))
    other = urlsplit(url)._replace(path=f"/{name}").geturl()
    return connect_to(Database(other, on_connect=_read_only, bulk=True, host=host))


def _read_only(connection: Any) -> None:  # noqa: ANN401  # a psycopg2 connection
    """Begin the one transaction of a connection, which a function can neither end nor make a writing one."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    schema.check_version(connection)


def migrate(url: str, host: str, say: Callable[[str], None]) -> None:
    """Bring the schema of a database up to date, from this host; `say` is called with each step."""
    schema.migrate(connect_to(Database(url, bulk=True, host=host)), say)
