"""Throttling of failed log-ins and tokens. Failures count by bucket: of a network, a site or a name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.clock import Clock
from app.domain.addresses import SITE_SHARE, network_of, site_of
from app.domain.operators import FORGOTTEN_AFTER, next_attempt
from app.services.bearer import digest
from app.storage import login_failures
from app.storage.database import Database
from app.storage.models import LoginFailure

_NETWORK_SHARE = 4  # so many failures of a network, which many people share, weigh as one
_SHARES = {
    "network": _NETWORK_SHARE,
    "network-site": _NETWORK_SHARE * SITE_SHARE,
    "token": _NETWORK_SHARE,
    "token-site": _NETWORK_SHARE * SITE_SHARE,
}


def network_buckets(address: str) -> tuple[str, ...]:
    """Return the buckets of failed log-ins from an address: of its network, and of the site of an IPv6 address."""
    return _shared("network", address)


def name_bucket(address: str, name: str) -> str:
    """Return the bucket of a name's failed log-ins from an address; anybody could fill one of the name alone."""
    return f"name:{network_of(address)}:{digest(name)}"


def code_bucket(operator_id: int) -> str:
    """Return the bucket of an operator's wrong codes, which needs the password to fill."""
    return f"code:{operator_id}"


def token_buckets(address: str) -> tuple[str, ...]:
    """Return the buckets of unknown tokens from an address: of its network, and of the site of an IPv6 address."""
    return _shared("token", address)


def _shared(kind: str, address: str) -> tuple[str, ...]:
    network, site = f"{kind}:{network_of(address)}", site_of(address)
    return (network,) if site is None else (network, f"{kind}-site:{site}")


@dataclass(frozen=True, slots=True)
class Throttle:
    """Counts failures by bucket, for all processes."""

    database: Database
    clock: Clock

    def wait_seconds(self, buckets: Sequence[str]) -> int:
        """Return in how many whole seconds the next attempt is allowed, 0 if it is now."""
        now = self.clock()
        found = self.database.with_connection(lambda: login_failures.read(buckets, now - FORGOTTEN_AFTER))
        waits = [next_attempt(_weighed(row), row.last_at) - now for row in found]
        return max([0, *(math.ceil(wait.total_seconds()) for wait in waits)])

    def count(self, buckets: Sequence[str]) -> None:
        """Count a failure against each bucket."""
        now = self.clock()
        with self.database.transact():
            login_failures.count(buckets, now, now - FORGOTTEN_AFTER)


def _weighed(row: LoginFailure) -> int:
    failures: int = row.failures
    return failures // _SHARES.get(row.bucket.partition(":")[0], 1)
