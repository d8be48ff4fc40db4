"""Values from the database that each process must know by itself: one thread reads them again twice a second."""

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from app.domain.errors import UnavailableError
from app.storage.database import Database

_SECONDS = 0.5
_AWAY_SECONDS = 1.0
Value = TypeVar("Value")
logger = logging.getLogger(__name__)
_polled: "weakref.WeakSet[Polled[Any]]" = weakref.WeakSet()
_starting = threading.Lock()
_process = 0


class Polled(Generic[Value]):
    """A value that is read again from its first use on; while the database is away, the last one stays."""

    def __init__(self, database: Database, read: Callable[[], Value]) -> None:
        self.database = database
        self._read = read
        self._process = 0
        self._values: list[Value] = []

    def get(self) -> Value:
        """Return the value; if there is none yet and it cannot be read now, raise what reading it raises."""
        is_first, self._process = self._process != os.getpid(), os.getpid()
        if is_first:
            _poll(self)
        if is_first or not self._values:
            try:
                self.renew()
            except UnavailableError:
                if not self._values:
                    raise
        return self._values[0]

    def renew(self) -> None:
        """Read the value again now, or raise as `get`."""
        self._values = [self.database.with_connection(self._read)]

    def renew_if_possible(self) -> bool:
        """Renew the value; return False where that fails."""
        try:
            self.renew()
        except UnavailableError:  # logged where it was noticed
            pass
        except Exception:  # the thread must survive any error
            logger.warning("a polled value cannot be read again", exc_info=True)
        else:
            return True
        return False


def _poll(value: Polled[Any]) -> None:
    """Have this process's thread renew a value for as long as somebody has it. A worker's begins after the fork."""
    global _process  # noqa: PLW0603  # a process has one such thread
    with _starting:
        _polled.add(value)
        if _process != os.getpid():
            _process = os.getpid()
            threading.Thread(target=_keep_renewing, args=(value.database,), name="polled", daemon=True).start()


def _keep_renewing(database: Database) -> None:
    with database.hold():  # for good: what is in force does not wait for a place
        while True:
            renewed = [value.renew_if_possible() for value in list(_polled)]
            time.sleep(_SECONDS if all(renewed) else _AWAY_SECONDS)
