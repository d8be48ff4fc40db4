"""Records of requests that take effect once, each written in the transaction that does what the request asks for."""

from datetime import datetime
from typing import Any, NamedTuple

import peewee
import psycopg2

from app.domain.errors import DatabaseUnavailableError
from app.storage.models import Card, IdempotencyRecord, database

PRUNE_BATCH = 1_000
CLAIM_SECONDS = 2
_NO_STATUS = 0


class Owner(NamedTuple):
    """Who sent a request, or issued a card: an operator or a shop's token, by ID; the other one is None."""

    operator_id: int | None = None
    token_id: int | None = None

    def issued(self, card: Card) -> bool:
        """Whether they issued a card."""
        return (card.operator_id, card.token_id) == self


def claim(owner: Owner, key: str, request_sha256: str, now: datetime) -> bool:
    """Claim a key for a request within the caller's transaction; False when it was claimed before.

    While another transaction has claimed the key, this waits for its end: then its record is visible, or gone.

    Raises:
        DatabaseUnavailableError: the wait takes longer than `CLAIM_SECONDS`; roll the transaction back.
        peewee.IntegrityError: the operator does not exist any more.
    """
    # Shorter than the wait for other locks: the same request sent many times would occupy all threads.
    database.execute_sql(f"SET LOCAL lock_timeout = '{CLAIM_SECONDS}s'")
    row = {"key": key, "request_sha256": request_sha256, "status": _NO_STATUS, "body": "", "created_at": now}
    insert = IdempotencyRecord.insert(operator=owner.operator_id, token=owner.token_id, **row)
    try:
        claimed = len(list(insert.on_conflict_ignore().returning(IdempotencyRecord.id).execute())) == 1
    except peewee.OperationalError as error:
        if isinstance(error.__context__, psycopg2.errors.LockNotAvailable):
            raise DatabaseUnavailableError("the same request is still being processed") from error
        raise
    database.execute_sql("SET LOCAL lock_timeout TO DEFAULT")
    return claimed


def keep(owner: Owner, key: str, status: int, body: str) -> None:
    """Write the answer to a request whose key the caller's transaction has claimed."""
    IdempotencyRecord.update(status=status, body=body).where(_is(owner, key)).execute()


def find(owner: Owner, key: str) -> IdempotencyRecord | None:
    """Return the record of a key; None when it is unknown, or was pruned."""
    found: IdempotencyRecord | None = IdempotencyRecord.get_or_none(_is(owner, key))
    return found


def prune(before: datetime) -> int:
    """Delete up to `PRUNE_BATCH` records created before `before`; return how many."""
    is_old = IdempotencyRecord.created_at < before
    old = IdempotencyRecord.select(IdempotencyRecord.id).where(is_old).limit(PRUNE_BATCH)
    deleted: int = IdempotencyRecord.delete().where(IdempotencyRecord.id.in_(old)).execute()
    return deleted


def _is(owner: Owner, key: str) -> Any:  # noqa: ANN401  # a peewee expression
    is_records = IdempotencyRecord.key == key
    for column, value in ((IdempotencyRecord.operator, owner.operator_id), (IdempotencyRecord.token, owner.token_id)):
        is_records &= column == value  # both, as the index has them; peewee writes IS NULL for None
    return is_records
