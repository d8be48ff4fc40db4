"""Values from the database that a process holds, so that no request waits for them."""

import itertools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from app.domain.errors import UnavailableError
from app.storage.database import Database

_SECONDS = 0.4
_AWAY_SECONDS = 1.0
Value = TypeVar("Value")
logger = logging.getLogger(__name__)


class Held(Generic[Value]):
    """A value that a thread of this process reads again after so many `seconds`.

    Each process begins at the first use, so that a worker does so after the fork. While the database is away, the last
    value stays.

    Args:
        database: Where it is read.
        read: Reads it; the result is replaced, never changed.
        seconds: Between two readings.
    """

    def __init__(self, database: Database, read: Callable[[], Value], seconds: float = _SECONDS) -> None:
        self._database = database
        self._read = read
        self.seconds = seconds
        self._process = 0
        self._lock = threading.Lock()
        self._readings = itertools.count(1)
        self._newest = 0
        self._values: list[Value] = []

    def get(self) -> Value:
        """Return the value.

        Raises:
            Exception: there is none yet, and it cannot be read now: what `read` raises, or DatabaseUnavailableError.
        """
        is_first, self._process = self._process != os.getpid(), os.getpid()
        if is_first:
            threading.Thread(target=_keep_renewing, args=(weakref.ref(self),), name="held", daemon=True).start()
        if is_first or not self._values:
            try:
                self.renew()
            except UnavailableError:
                if not self._values:
                    raise
        return self._values[0]

    def renew(self) -> None:
        """Read the value again now. A reading is dropped if one that began later has already ended.

        Raises:
            Exception: as `get`.
        """
        number = next(self._readings)
        value = self._database.with_connection(self._read)
        with self._lock:  # not while reading, so that a slow reading delays no other
            if number > self._newest:
                self._newest, self._values = number, [value]

    def renew_if_possible(self) -> bool:
        """Renew the value; return False, and drop the connection, where that fails."""
        try:
            self.renew()
        except UnavailableError:  # logged where it was noticed
            pass
        except Exception:  # the thread must survive any error
            logger.warning("what is held cannot be read again", exc_info=True)
        else:
            return True
        self._database.close()
        return False


def _keep_renewing(reference: "weakref.ref[Held[Any]]") -> None:
    """Renew a held value for as long as somebody has it."""
    while (held := reference()) is not None:
        seconds = held.seconds if held.renew_if_possible() else _AWAY_SECONDS
        del held  # or the thread itself would have it
        time.sleep(seconds)
