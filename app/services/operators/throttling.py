"""Throttling of failed log-ins and tokens. Failures count by bucket: of a network, a site or a name."""

import math
from collections.abc import Sequence
from datetime import datetime

from peewee import SQL, Case

from app.domain.addresses import SITE_SHARE, network_of, site_of
from app.domain.operators.operators import FORGOTTEN_AFTER, next_attempt
from app.services.random_tokens import digest
from app.storage.database import Database
from app.storage.models import LoginFailure

_NETWORK_SHARE = 4  # so many failures of a network, which many people share, weigh as one
_SHARES = {
    "network": _NETWORK_SHARE,
    "network-site": _NETWORK_SHARE * SITE_SHARE,
    "token": _NETWORK_SHARE,
    "token-site": _NETWORK_SHARE * SITE_SHARE,
}


def shared_buckets(kind: str, address: str) -> tuple[str, ...]:
    """Return the `network` or `token` buckets of an address: of its network, and of an IPv6 address's site."""
    network, site = f"{kind}:{network_of(address)}", site_of(address)
    return (network,) if site is None else (network, f"{kind}-site:{site}")


def name_bucket(address: str, name: str) -> str:
    """Return the bucket of a name's failed log-ins from an address; anybody could fill one of the name alone."""
    return f"name:{network_of(address)}:{digest(name)}"


def code_bucket(operator_id: int) -> str:
    """Return the bucket of an operator's wrong codes, which needs the password to fill."""
    return f"code:{operator_id}"


def wait_seconds(buckets: Sequence[str], now: datetime) -> int:
    """Return in how many whole seconds the next attempt is allowed, 0 if it is now."""
    counted = LoginFailure.bucket.in_(buckets) & (LoginFailure.last_at > now - FORGOTTEN_AFTER)
    waits = [next_attempt(_weighed(row), row.last_at) - now for row in LoginFailure.select().where(counted)]
    return max([0, *(math.ceil(wait.total_seconds()) for wait in waits)])


def count(database: Database, buckets: Sequence[str], now: datetime) -> None:
    """Count a failure against each bucket, for all processes; a count that is forgotten begins anew."""
    # In one order, so that two writers do not deadlock.
    rows = [{"bucket": bucket, "failures": 1, "last_at": now} for bucket in sorted(buckets)]
    is_recent = LoginFailure.last_at > now - FORGOTTEN_AFTER
    failures = Case(None, [(is_recent, LoginFailure.failures + SQL("1"))], SQL("1"))
    with database.transact():
        LoginFailure.insert_many(rows).on_conflict(
            conflict_target=[LoginFailure.bucket], update={LoginFailure.failures: failures, LoginFailure.last_at: now}
        ).execute()


def forget(buckets: Sequence[str]) -> None:
    """Forget the buckets' failures, in the caller's transaction."""
    LoginFailure.delete().where(LoginFailure.bucket.in_(buckets)).execute()


def _weighed(row: LoginFailure) -> int:
    failures: int = row.failures
    return failures // _SHARES.get(row.bucket.partition(":")[0], 1)
