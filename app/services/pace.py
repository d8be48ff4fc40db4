"""How often an address may ask. `Pace` is for one process: behind nginx, whose limit is for all, it is a safeguard."""

import math
import threading
from collections.abc import Callable
from datetime import datetime
from time import monotonic

from app.domain.addresses import network_of, site_of
from app.domain.cards import Card, answers_to, parse_card_id
from app.domain.texts import RefusedError
from app.storage import journal

BURST = 10
"""So many questions of an address may come at once, or within as many seconds; then one a second."""
_TICKS = 10  # of a second; whole numbers add up exactly
_MAX_KEPT = 20_000
_MINUTE = 60


class TooFastError(RefusedError):
    """The address asks, or guesses, too often; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__("操作过于频繁，请稍后再试", "too many requests: try again in a moment")


def refuse_guesses(address: str, at: datetime, *typed: str) -> None:
    """Refuse what may be guesses at imported keys: texts other than card IDs, after an address's refusals of a minute.

    Asks the journal, on an open connection.

    Raises:
        TooFastError: one of the texts is not a card ID, and the address has too many refusals to be journalled.
    """
    if any(parse_card_id(text) is None for text in typed) and journal.has_too_many_refusals(address, at):
        raise TooFastError(_MINUTE)


def hides(card: Card | None, typed: str, address: str, at: datetime) -> bool:
    """Return whether a card is as if it did not exist, since its ID may be that of a guessed key, as above."""
    is_guess = card is not None and not answers_to(typed, is_imported=card.is_imported)
    return is_guess and journal.has_too_many_refusals(address, at)


class Pace:
    """Lets each address ask about once a second, and each IPv6 /48 ten times as often.

    Args:
        clock: Returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._paid_until: dict[str, int] = {}  # in ticks; each question pays for some (GCRA)

    def wait_seconds(self, address: str) -> int:
        """Count a question and return 0, or return in how many whole seconds it may be asked again."""
        prices = {network_of(address): _TICKS}
        if (site := site_of(address)) is not None:
            prices[site] = 1
        with self._lock:
            now = int(self._clock() * _TICKS)
            paid = {who: max(self._paid_until.get(who, now), now) + price for who, price in prices.items()}
            early = max(paid.values()) - now - BURST * _TICKS
            if early > 0:
                return math.ceil(early / _TICKS)
            if len(self._paid_until) >= _MAX_KEPT:
                self._paid_until = {who: until for who, until in self._paid_until.items() if until > now}
            if len(self._paid_until) >= _MAX_KEPT:
                self._paid_until = {}
            self._paid_until |= paid
        return 0
