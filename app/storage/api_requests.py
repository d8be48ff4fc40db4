"""The answers that shops' idempotency keys got, each written in the transaction that did what it tells."""

from datetime import datetime

import psycopg2
from peewee import OperationalError, Tuple

from app.domain.errors import DatabaseUnavailableError
from app.storage.models import ApiRequest, database

PRUNE_BATCH = 1_000
CLAIM_SECONDS = 2
_NO_STATUS = 0


def claim(token_id: int, key: str, request_sha256: str, now: datetime) -> bool:
    """Take a key for a request, within the caller's transaction; False when it is taken.

    While another transaction holds the same key, this waits for its end: whatever it came to is then to be seen.

    Raises:
        DatabaseUnavailableError: that takes longer than `CLAIM_SECONDS`; the transaction is to be rolled back.
    """
    # Not for as long as other locks: whoever sends an order again and again would occupy all threads with waiting.
    database.execute_sql(f"SET LOCAL lock_timeout = '{CLAIM_SECONDS}s'")
    try:
        taken = _insert(token_id, key, request_sha256, now)
    except OperationalError as error:
        if isinstance(error.__context__, psycopg2.errors.LockNotAvailable):
            raise DatabaseUnavailableError("the same order is still under way") from error
        raise
    database.execute_sql("SET LOCAL lock_timeout TO DEFAULT")
    return taken


def _insert(token_id: int, key: str, request_sha256: str, now: datetime) -> bool:
    taken = (
        ApiRequest.insert(
            token=token_id, key=key, request_sha256=request_sha256, status=_NO_STATUS, body="", created_at=now
        )
        .on_conflict_ignore()
        .returning(ApiRequest.key)
        .execute()
    )
    return len(list(taken)) == 1


def keep(token_id: int, key: str, status: int, body: str) -> None:
    """Write down the answer to a key that the caller's transaction has claimed."""
    ApiRequest.update(status=status, body=body).where(_is(token_id, key)).execute()


def find(token_id: int, key: str) -> ApiRequest | None:
    """Return what a key got; None when it is unknown, as after it was pruned."""
    found: ApiRequest | None = ApiRequest.select().where(_is(token_id, key)).first()
    return found


def prune(before: datetime) -> int:
    """Delete up to `PRUNE_BATCH` answers from before `before`; return how many."""
    old = ApiRequest.select(ApiRequest.token, ApiRequest.key).where(ApiRequest.created_at < before).limit(PRUNE_BATCH)
    deleted: int = ApiRequest.delete().where(Tuple(ApiRequest.token, ApiRequest.key).in_(old)).execute()
    return deleted


def _is(token_id: int, key: str) -> bool:
    condition: bool = (ApiRequest.token == token_id) & (ApiRequest.key == key)  # what a peewee expression passes for
    return condition
