"""When to ask again, and how long to wait before."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from kadun.errors import ServerUnreachable

_random = secrets.SystemRandom()


@dataclass(frozen=True)
class RetryPolicy:
    """A small bounded number of tries.

    Attributes:
        tries: how often to ask in all.
        first_pause_seconds: about how long to wait before the second try; it doubles with each further one.
        longest_pause_seconds: a server that asks for more than this gets no further try; the caller is told.
        sleep: how to wait; takes seconds.
    """

    tries: int = 3
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 5
    sleep: Callable[[float], None] = time.sleep

    def wait_after(self, failure: ServerUnreachable, tries_made: int) -> None:
        """Wait before the next try.

        Raises:
            ServerUnreachable: the failure itself, when another try would be no use or too many.
        """
        asked_for = failure.retry_after or 0
        if not failure.passing or tries_made >= self.tries or asked_for > self.longest_pause_seconds:
            raise failure
        pause = self.first_pause_seconds * 2 ** (tries_made - 1)
        # Jitter, so that a thousand customers who were cut off together do not come back together.
        self.sleep(asked_for + _random.uniform(pause / 2, pause))
