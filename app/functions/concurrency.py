"""Limits how many calls run at once, in total and for one card."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.domain.texts import Text


class BusyError(Exception):
    """All slots are taken, or this card has its share already."""

    def __init__(self) -> None:
        super().__init__(str(Text("名额已满，请稍后重试", "all slots are taken: try again later")))


class ConcurrencyLimiter:
    """A number of slots for calls. One card gets at most half of them, and at least one."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._share = max(1, slots // 2)
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    @contextmanager
    def slot(self, card_id: str) -> Iterator[None]:
        """Hold a slot for as long as the context lasts.

        Raises:
            BusyError: no slot is free.
        """
        with self._lock:
            if self._taken.total() >= self._slots or self._taken[card_id] >= self._share:
                raise BusyError
            self._taken[card_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[card_id] -= 1
                if not self._taken[card_id]:
                    del self._taken[card_id]
