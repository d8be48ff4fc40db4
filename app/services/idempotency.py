"""Idempotency: operators' forms and shops' orders take effect once, however often they are sent."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import peewee

from app.clock import Clock
from app.domain.errors import ConflictError, DatabaseUnavailableError
from app.domain.texts import RefusedError
from app.storage import idempotency
from app.storage.database import Database
from app.storage.idempotency import Owner

__all__ = ["Answer", "Document", "Idempotency", "KeyReusedError", "Owner", "Request"]
_ATTEMPTS = 5
logger = logging.getLogger(__name__)
Document = dict[str, Any]


class Request(NamedTuple):
    """A request that takes effect once.

    `key` is the owner's name for it, `request_sha256` (hex) the digest of all that it asks for, `status` the HTTP
    status of a successful answer.
    """

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

        Args:
            request: The request.
            act: Does it within this transaction and returns the answer's body. An exception undoes everything.

        Raises:
            KeyReusedError: the key was used for another request.
            RefusedError: the operator was removed a moment ago.
            DatabaseUnavailableError: the database is away, or the same request is still being processed.
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
        record = self.database.with_connection(lambda: idempotency.find(owner, key))
        return None if record is None else json.loads(record.body)

    def _attempt(self, request: Request, act: Callable[[], Document]) -> Answer:
        owner, key, request_sha256, status = request
        with self.database.atomic():
            if self._claim(request):
                body = json.dumps(act(), ensure_ascii=False)
                idempotency.keep(owner, key, status, body)
                return Answer(status, body, is_replayed=False)
            record = idempotency.find(owner, key)
        if record is None:
            raise ConflictError("the record was pruned at this moment")
        if record.request_sha256 != request_sha256:
            raise KeyReusedError
        return Answer(record.status, record.body, is_replayed=True)

    def _claim(self, request: Request) -> bool:
        try:
            return idempotency.claim(request.owner, request.key, request.request_sha256, self.clock())
        except peewee.IntegrityError as error:
            raise RefusedError("您的账号已被删除", "your account was removed") from error
