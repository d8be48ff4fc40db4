"""Failed log-ins, counted by bucket: whom a failure counts against."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from peewee import SQL, Case

from app.storage.models import LoginFailure


class Failures(NamedTuple):
    """How often, and when last."""

    bucket: str
    failures: int
    last_at: datetime


def read(buckets: Sequence[str], since: datetime) -> list[Failures]:
    """Return the buckets' failures, of those that failed last after `since`."""
    query = LoginFailure.select().where(LoginFailure.bucket.in_(buckets) & (LoginFailure.last_at > since))
    return [Failures(row.bucket, row.failures, row.last_at) for row in query]


def count(buckets: Sequence[str], now: datetime, since: datetime) -> None:
    """Count a failure against each bucket; what failed last before `since` begins anew."""
    # In one order for all, or two of them could wait for each other.
    rows = [{"bucket": bucket, "failures": 1, "last_at": now} for bucket in sorted(buckets)]
    failures = Case(None, [(LoginFailure.last_at > since, LoginFailure.failures + SQL("1"))], SQL("1"))
    (
        LoginFailure.insert_many(rows)
        .on_conflict(
            conflict_target=[LoginFailure.bucket],
            update={LoginFailure.failures: failures, LoginFailure.last_at: now},
        )
        .execute()
    )


def forget(buckets: Sequence[str]) -> None:
    """Forget the buckets' failures."""
    LoginFailure.delete().where(LoginFailure.bucket.in_(buckets)).execute()


def prune(before: datetime) -> int:
    """Delete what failed last before `before`; return how many."""
    deleted: int = LoginFailure.delete().where(LoginFailure.last_at <= before).execute()
    return deleted
