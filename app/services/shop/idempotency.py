"""Idempotency: operators' forms and shops' orders take effect once, however often they are sent."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import peewee
import psycopg2

from app.domain.errors import ConflictError, DatabaseUnavailableError
from app.domain.texts import RefusedError
from app.runtime.clock import Clock
from app.storage.cards import Owner
from app.storage.database import Database
from app.storage.models import IdempotencyRecord

__all__ = ["Answer", "Document", "Idempotency", "KeyReusedError", "Owner", "Request"]
_ATTEMPTS = 5
PRUNE_BATCH = 1_000
CLAIM_SECONDS = 2
_NO_STATUS = 0
logger = logging.getLogger(__name__)
Document = dict[str, Any]


class Request(NamedTuple):
    """A request that takes effect once, by its owner's `key` for it and the digest of all that it asks for."""

    owner: Owner
    key: str
    request_sha256: str
    status: int


class Answer(NamedTuple):
    """The answer to a request, `is_replayed` when it was sent before. `body` is JSON."""

    status: int
    body: str
    is_replayed: bool


class KeyReusedError(Exception):
    """The key was used for another request."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The requests to one database that take effect once.

    An answer is written in the transaction that does what the request asks for: after a crash either both are there
    or neither is. Refusals are not kept, so that a refused request may be sent again under its key.
    """

    database: Database
    clock: Clock

    def run(self, request: Request, act: Callable[[], Document]) -> Answer:
        """Do what a request asks for, unless it was done before, and return the answer.

        `act` does it within this transaction and returns the answer's body. An exception undoes everything. Raise
        KeyReusedError if the key was used for another request, RefusedError if the operator was removed a moment ago,
        DatabaseUnavailableError if the database is away or the same request is still being processed.
        """
        for _ in range(_ATTEMPTS):
            try:
                # Safe to run again after a commit whose answer was lost: the request is then found done.
                return self.database.with_connection(lambda: self._attempt(request, act))
            except ConflictError:
                continue
        logger.error("gave up a request after conflicts at every attempt", extra={"owner": request.owner._asdict()})
        raise DatabaseUnavailableError("conflicts with other transactions at every attempt")

    def find(self, owner: Owner, key: str) -> Document | None:
        """Return the body of the answer to a request of this owner; None when it is unknown, or was pruned."""
        record = IdempotencyRecord.get_or_none(_is(owner, key))
        return None if record is None else json.loads(record.body)

    def _attempt(self, request: Request, act: Callable[[], Document]) -> Answer:
        is_it = _is(request.owner, request.key)
        with self.database.atomic():
            if self._claim(request):
                body = json.dumps(act(), ensure_ascii=False)
                IdempotencyRecord.update(status=request.status, body=body).where(is_it).execute()
                return Answer(request.status, body, is_replayed=False)
            record = IdempotencyRecord.get_or_none(is_it)
        if record is None:
            raise ConflictError("the record was pruned at this moment")
        if record.request_sha256 != request.request_sha256:
            raise KeyReusedError
        return Answer(record.status, record.body, is_replayed=True)

    def _claim(self, request: Request) -> bool:
        """Claim a key; False when it was claimed before. Waits for another transaction that has claimed it."""
        # Shorter than the wait for other locks: the same request sent many times would occupy all connections.
        self.database.execute_sql(f"SET LOCAL lock_timeout = '{CLAIM_SECONDS}s'")
        row = {"key": request.key, "request_sha256": request.request_sha256, "status": _NO_STATUS, "body": ""}
        insert = IdempotencyRecord.insert(**row, **request.owner._asdict(), created_at=self.clock())
        try:
            claimed = list(insert.on_conflict_ignore().returning(IdempotencyRecord.id).execute())
        except peewee.IntegrityError as error:
            raise RefusedError("您的账号已被删除", "your account was removed") from error
        except peewee.OperationalError as error:
            if isinstance(error.__context__, psycopg2.errors.LockNotAvailable):
                raise DatabaseUnavailableError("the same request is still being processed") from error
            raise
        self.database.execute_sql("SET LOCAL lock_timeout TO DEFAULT")
        return bool(claimed)


def prune(before: datetime) -> int:
    """Delete up to `PRUNE_BATCH` records created before `before`; return how many."""
    is_old = IdempotencyRecord.created_at < before
    old = IdempotencyRecord.select(IdempotencyRecord.id).where(is_old).limit(PRUNE_BATCH)
    return int(IdempotencyRecord.delete().where(IdempotencyRecord.id.in_(old)).execute())


def _is(owner: Owner, key: str) -> Any:  # noqa: ANN401  # a peewee expression
    # Both owners, as the index has them; peewee writes IS NULL for None.
    is_owners = (IdempotencyRecord.operator == owner.operator_id) & (IdempotencyRecord.token == owner.token_id)
    return (IdempotencyRecord.key == key) & is_owners
