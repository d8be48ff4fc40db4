"""Load on a server while a test moves, kills or replaces it."""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Self

from tests.support.hosts.stack import Stack
from tests.support.services.http_exchange import Response, exchange
from tests.support.services.service import question, wait_for


class Load:
    """Threads that repeat a request until the end of the block; `failures` are the exceptions that it raised."""

    def __init__(self, request: Callable[[], Any], threads: int = 1, pause_seconds: float = 0.02) -> None:
        self.succeeded = 0
        self.failures: list[Exception] = []
        self._request, self._pause_seconds = request, pause_seconds
        self.end = threading.Event()
        # Daemons: a request may still be tried again when a test has failed.
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def _run(self) -> None:
        while not self.end.wait(self._pause_seconds):
            try:
                self._request()
                self.succeeded += 1
            except Exception as error:  # noqa: BLE001  # whatever it is, the test is to show it
                self.failures.append(error)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end.set()
        for thread in self._threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in self._threads), "the last request is not answered"


class Customers(Load):
    """Customers who activate one card after another, and then verify them again.

    A failure is what a server may never do: an error of the connection, or a refusal other than 503 with Retry-After.

    Args:
        stack: The server.
        cards: Fresh cards; without them `count` are issued.
        count: How many.
        threads: How many customers ask at once.
    """

    def __init__(self, stack: Stack, cards: Iterable[str] = (), count: int = 100, threads: int = 1) -> None:
        super().__init__(self._activate, threads, pause_seconds=0.15)
        self._stack = stack
        self.cards = deque(cards)
        if not self.cards:
            issued = stack.cardctl("card", "issue", "--validity", "30d", "--count", str(count), "--format", "json")
            self.cards.extend(card["id"] for card in issued)
        self.acknowledged: list[str] = []
        self.statuses: list[int] = []

    def _activate(self) -> None:
        card = self.cards.popleft()
        try:
            answer = self.ask(card)
            self.statuses.append(answer.status)
            if answer.status != 200:
                assert answer.status == 503, answer
                assert "retry-after" in answer.headers, answer
                self.cards.appendleft(card)
                return
            assert answer.json()["code"] == "OK", answer
        except Exception:
            self.cards.appendleft(card)
            raise
        self.acknowledged.append(card)
        self.cards.append(card)

    def ask(self, card: str) -> Response:
        body = json.dumps(question(card, f"pc of {card}")).encode()
        return exchange(self._stack.connection(), "POST", "/v1/verify", body, {"Content-Type": "application/json"})

    def wait_for_more(self, count: int) -> None:
        wanted = len(self.acknowledged) + count
        wait_for(lambda: len(self.acknowledged) >= wanted, 120)
