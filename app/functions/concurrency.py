"""The slots of calls: how many run at once, of all callers, of one card, one address and one site."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.domain.calls import Caller, CallLimits, may_begin
from app.domain.texts import Text


class BusyError(Exception):
    """All slots are taken, or this card, this address or its site has its share already."""

    def __init__(self) -> None:
        super().__init__(str(Text("名额已满，请稍后重试", "all slots are taken: try again later")))


@dataclass(eq=False, slots=True)
class Slot:
    """What a call holds while it runs; calls in the slot of the same number have the same `Place`, one after another.

    `is_clear` says whether the last call's processes and files are known to be gone.
    """

    number: int
    is_clear: bool = False


class ConcurrencyLimiter:
    """Gives each call a slot of its own."""

    def __init__(self, limits: CallLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._slots = [Slot(number) for number in range(limits.places)]
        self._taken: dict[Slot, Caller] = {}

    @contextmanager
    def slot(self, caller: Caller) -> Iterator[Slot]:
        """Hold a slot for as long as the context lasts.

        Raises:
            BusyError: no slot is free for this caller.
        """
        with self._lock:
            if not may_begin(caller, list(self._taken.values()), self._limits):
                raise BusyError
            free = [slot for slot in self._slots if slot not in self._taken]
            slot = max(free, key=lambda slot: slot.is_clear)  # otherwise a call clears its place first
            self._taken[slot] = caller
        try:
            yield slot
        finally:
            with self._lock:
                del self._taken[slot]
