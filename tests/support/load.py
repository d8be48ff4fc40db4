"""Customers that activate one card after another, while a test breaks what serves them."""

import threading
from collections import Counter
from typing import Self

from tests.support.service import Service, question, wait_for

THREADS = 8


class Load:
    """Threads that activate one card after another until told to stop."""

    def __init__(self, service: Service, cards: list[str]) -> None:
        self._service = service
        self._cards = iter(cards)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.activated: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.without_retry_after = 0
        self._threads = [threading.Thread(target=self._run) for _ in range(THREADS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                card_id = next(self._cards, None)
            if card_id is None:
                return
            answer = self._service.verify(question(card_id, hardware=f"machine of {card_id}"))
            with self._lock:
                self.statuses[answer.status] += 1
                if answer.status == 200:
                    self.activated.append(card_id)
                elif "retry-after" not in answer.headers:
                    self.without_retry_after += 1

    def reached(self, status: int, more: int) -> None:
        """Wait for `more` answers of this status."""
        goal = self.statuses[status] + more
        wait_for(lambda: self.statuses[status] >= goal, 40)
