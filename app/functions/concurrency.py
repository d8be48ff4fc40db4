"""The places for calls: how many run at once, of all callers, of one card and of one address."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.domain.calls import Caller, CallLimits, may_begin
from app.domain.texts import Text


class BusyError(Exception):
    """All places are taken, or this card or this address has its share already."""

    def __init__(self) -> None:
        super().__init__(str(Text("名额已满，请稍后重试", "all slots are taken: try again later")))


class ConcurrencyLimiter:
    """Gives each call a place of its own."""

    def __init__(self, limits: CallLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._taken: dict[int, Caller] = {}

    @contextmanager
    def place(self, caller: Caller) -> Iterator[int]:
        """Hold a place, and give its number, for as long as the context lasts.

        Raises:
            BusyError: no place is free for this caller.
        """
        with self._lock:
            if not may_begin(caller, list(self._taken.values()), self._limits):
                raise BusyError
            number = next(number for number in range(self._limits.places) if number not in self._taken)
            self._taken[number] = caller
        try:
            yield number
        finally:
            with self._lock:
                del self._taken[number]
