"""Customers who open their programs while machines fail."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from http.client import HTTPException
from itertools import pairwise
from typing import NamedTuple

from tests.support.licence.customers import Load
from tests.support.services.service import wait_for

CUSTOMERS = 8
ACCEPTED, REFUSED, FAILED = 200, 503, 0
_PAUSE_SECONDS = 0.05
_AFTER_REFUSAL_SECONDS = 0.2


class Reply(NamedTuple):
    """What a customer learned: an HTTP status or FAILED and why, and whether this request activated the card."""

    status: int
    activated: bool = False
    retry_after: bool = False
    why: str = ""


class Answer(NamedTuple):
    """One answer: when, to which customer, whether about a card's first use, and how long it took."""

    at: float
    customer: int
    first: bool
    seconds: float
    reply: Reply


def machine_of(card_id: str) -> str:
    return f"machine of {card_id}"


class Customers(Load):
    """Each activates one card after another, asking until it is told that it succeeded, and verifies it once more."""

    def __init__(self, ask: Callable[[str], Reply], cards: Iterable[str]) -> None:
        super().__init__(self._open_next, CUSTOMERS, pause_seconds=0)
        self._ask = ask
        self._cards = iter(cards)
        self._lock = threading.Lock()
        self.answers: list[Answer] = []
        self.told: dict[str, int] = {}
        """How often a customer was told that this request activated the card, for each card that was accepted."""

    def _open_next(self) -> None:
        with self._lock:
            card_id = next(self._cards)
        if self._insist(card_id, first=True):
            self._insist(card_id, first=False)

    def _insist(self, card_id: str, *, first: bool) -> bool:
        while not self.end.is_set():
            began = time.monotonic()
            try:
                reply = self._ask(card_id)
            except (OSError, HTTPException) as error:
                reply = Reply(FAILED, why=repr(error))
            now = time.monotonic()
            with self._lock:
                self.answers.append(Answer(now, threading.get_ident(), first, now - began, reply))
                if reply.status == ACCEPTED:
                    self.told[card_id] = self.told.get(card_id, 0) + reply.activated
            self.end.wait(_PAUSE_SECONDS if reply.status == ACCEPTED else _AFTER_REFUSAL_SECONDS)
            if reply.status == ACCEPTED:
                return True
        return False

    @property
    def statuses(self) -> Counter[int]:
        return Counter(answer.reply.status for answer in self.answers)

    @property
    def odd(self) -> list[Answer]:
        """The answers that are neither accepted nor 503 with Retry-After."""

        def is_good(reply: Reply) -> bool:
            return reply.status == ACCEPTED or (reply.status == REFUSED and reply.retry_after)

        return [answer for answer in self.answers if not is_good(answer.reply)]

    def answered(self, status: int, *, each: int = 5, seconds: float = 120) -> None:
        """Wait until each customer has got `each` further answers of this status."""
        since = time.monotonic()

        def is_reached() -> bool:
            found = Counter(a.customer for a in list(self.answers) if a.at > since and a.reply.status == status)
            return len(found) == CUSTOMERS and min(found.values()) >= each

        wait_for(is_reached, seconds)

    def _accepted(self, since: float, *, first: bool) -> list[Answer]:
        return [a for a in self.answers if a.at > since and a.first == first and a.reply.status == ACCEPTED]

    def longest_wait(self, since: float, *, first: bool) -> float:
        times = [since, *(answer.at for answer in self._accepted(since, first=first))]
        return max(later - earlier for earlier, later in pairwise(times))

    def seconds_until_all_are_back(self, since: float) -> float:
        """Return the seconds from the first activation after the longest wait to the last customer's first one."""
        activations = self._accepted(since, first=True)
        times = [since, *(answer.at for answer in activations)]
        _, back = max(pairwise(times), key=lambda pair: pair[1] - pair[0])
        firsts: dict[int, float] = {}
        for answer in activations:
            if answer.at >= back:
                firsts.setdefault(answer.customer, answer.at)
        return max(firsts.values()) - back
