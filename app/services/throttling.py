"""How often somebody may fail: the counts behind log-ins and tokens. A bucket is whom a failure counts against."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime

from app.domain.addresses import network_of
from app.domain.operators import FORGOTTEN_AFTER, next_attempt
from app.services.bearer import digest
from app.storage import login_failures
from app.storage.database import Database

_NETWORK_SHARE = 4  # a network is many people: so many failures of theirs weigh as one
_SHARED = ("network:", "token:")


def network_bucket(address: str) -> str:
    """Return the bucket of failed log-ins from an address."""
    return f"network:{network_of(address)}"


def name_bucket(address: str, name: str) -> str:
    """Return the bucket of a name's failed log-ins from an address; of the name alone anybody could fill it."""
    return f"name:{network_of(address)}:{digest(name)}"


def device_bucket(device_sha256: str) -> str:
    """Return the bucket of failed log-ins from a browser that the operator has logged in with."""
    return f"device:{device_sha256}"


def code_bucket(operator_id: int) -> str:
    """Return the bucket of an operator's wrong codes: only who knows the password can fill it."""
    return f"code:{operator_id}"


def own_bucket(operator_id: int) -> str:
    """Return the bucket of an operator's wrong passwords in pages: only who is logged in as them can fill it."""
    return f"own:{operator_id}"


def token_bucket(address: str) -> str:
    """Return the bucket of unknown tokens from an address."""
    return f"token:{network_of(address)}"


class Throttle:
    """Failures, by bucket.

    Args:
        database: Where they are counted, for all processes.
        clock: Returns the time now, aware.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def wait_seconds(self, buckets: Sequence[str]) -> int:
        """Return for how many whole seconds no further attempt is allowed; 0 when one is."""
        now = self._clock()
        found = self._database.with_connection(lambda: login_failures.read(buckets, now - FORGOTTEN_AFTER))
        waits = [next_attempt(_weighed(row), row.last_at) - now for row in found]
        return max([0, *(math.ceil(wait.total_seconds()) for wait in waits)])

    def count(self, buckets: Sequence[str]) -> None:
        """Count a failure against each bucket."""
        now = self._clock()
        self._database.with_connection(lambda: login_failures.count(buckets, now, now - FORGOTTEN_AFTER), once=True)

    def forget(self, buckets: Sequence[str]) -> None:
        """Forget the failures of the buckets: whoever it was has shown who they are."""
        self._database.with_connection(lambda: login_failures.forget(of_one(buckets)))


def of_one(buckets: Sequence[str]) -> list[str]:
    """Return the buckets that are one person's: a success says nothing of the others in a network."""
    return [bucket for bucket in buckets if not bucket.startswith(_SHARED)]


def _weighed(row: login_failures.Failures) -> int:
    return row.failures // _NETWORK_SHARE if row.bucket.startswith(_SHARED) else row.failures
