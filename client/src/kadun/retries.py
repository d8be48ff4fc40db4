"""The retry policy: how often to try, and how long to wait in between."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Callable

from kadun.errors import ServerUnreachable

_random = secrets.SystemRandom()


@dataclass(frozen=True)
class RetryPolicy:
    """A bounded number of tries with exponential backoff and jitter."""

    tries: int = 3  # in total
    first_pause_seconds: float = 0.5  # approximately; it doubles with each try
    longest_pause_seconds: float = 5  # if the server asks for a longer pause, there is no further try
    sleep: Callable[[float], object] = time.sleep  # in a heartbeat its stop signal waits instead

    def wait_after(self, failure: ServerUnreachable, tries_made: int) -> None:
        """Wait before the next try, or raise the failure, if it is permanent or there are no tries left."""
        asked_for = failure.retry_after or 0
        if not failure.passing or tries_made >= self.tries or asked_for > self.longest_pause_seconds:
            raise failure
        pause = self.first_pause_seconds * 2 ** (tries_made - 1)
        # Jitter, so that customers who lost the connection together do not come back together.
        self.sleep(asked_for + _random.uniform(pause / 2, pause))
