"""Counts of failed log-ins and tokens, by bucket (`app.services.throttling`)."""

from collections.abc import Sequence
from datetime import datetime

from peewee import SQL, Case

from app.storage.models import LoginFailure


def read(buckets: Sequence[str], since: datetime) -> list[LoginFailure]:
    """Return the counts of the buckets whose last failure was after `since`."""
    return list(LoginFailure.select().where(LoginFailure.bucket.in_(buckets) & (LoginFailure.last_at > since)))


def count(buckets: Sequence[str], now: datetime, since: datetime) -> None:
    """Count a failure against each bucket; a count whose last failure was before `since` begins anew."""
    # In one order, so that two writers do not deadlock.
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
    """Delete the counts whose last failure was before `before`; return how many."""
    deleted: int = LoginFailure.delete().where(LoginFailure.last_at <= before).execute()
    return deleted
