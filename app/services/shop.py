"""What shops (发卡平台) do with cards: each order once, however often it is sent."""

import json
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from app.domain.errors import ConflictError, DatabaseUnavailableError
from app.domain.operators import shop_actor
from app.services.card_actions import ActionResult, CardActions, CardNotFoundError, canonical
from app.services.exports import issued_documents
from app.services.formatting import local, seconds
from app.services.issuing import Issuing
from app.services.shop_tokens import ShopIdentity
from app.storage import api_requests
from app.storage import cards as card_rows
from app.storage.database import Database

_ATTEMPTS = 5
logger = logging.getLogger(__name__)
Document = dict[str, Any]


class Order(NamedTuple):
    """A request that changes something, as it will be known again.

    `key` is the shop's own name for it, `request_sha256` (hex) covers all that it asks, and `status` is what its
    success is answered with.
    """

    shop: ShopIdentity
    key: str
    request_sha256: str
    status: int


class Answer(NamedTuple):
    """What an order got, now or (`is_replayed`) when it was first sent. `body` is JSON."""

    status: int
    body: str
    is_replayed: bool


class OrderChangedError(Exception):
    """The order's key was used for another request."""


class Shop:
    """The shops' orders on one database.

    An order's answer is written in the transaction that does what it tells: a crash neither sells twice nor forgets.
    Refusals are not kept, so that a refused order may be tried again under its key.

    Args:
        database: Where the cards are.
        timezone: The vendor's, in which times are told.
        clock: Returns the time now, aware.
    """

    def __init__(self, database: Database, timezone: ZoneInfo, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._timezone = timezone
        self._clock = clock

    def issue(
        self, order: Order, count: int, validity: timedelta | None, batch: str | None = None, note: str | None = None
    ) -> Answer:
        """Issue new cards.

        Raises:
            OrderChangedError: the key was used for another request.
            RefusedError: a number or a text is out of bounds.
            DatabaseUnavailableError: the database is away, or the same order is still under way.
        """

        def act() -> Document:
            issuing = Issuing(self._database, shop_actor(order.shop.name), self._clock)
            return {"cards": list(issued_documents(issuing.issue(count, validity, batch, note)))}

        return self._once(order, act)

    def freeze(self, order: Order, card_ids: list[str]) -> Answer:
        """Freeze cards.

        Raises:
            CardNotFoundError: one of them is not there; none was changed.
            OrderChangedError, DatabaseUnavailableError: as for `issue`.
        """
        return self._once(order, lambda: _told(self._card_actions(order).freeze(card_ids)))

    def unfreeze(self, order: Order, card_ids: list[str]) -> Answer:
        """Unfreeze cards.

        Raises:
            CardNotFoundError, OrderChangedError, DatabaseUnavailableError: as for `freeze`.
        """
        return self._once(order, lambda: _told(self._card_actions(order).unfreeze(card_ids)))

    def extend(self, order: Order, card_ids: list[str], by: timedelta) -> Answer:
        """Add time to cards.

        Raises:
            RefusedError: one is permanent, or would last longer than 100 years; none was changed.
            CardNotFoundError, OrderChangedError, DatabaseUnavailableError: as for `freeze`.
        """
        return self._once(order, lambda: _told(self._card_actions(order).extend(card_ids, by)))

    def look_up(self, card_id: str) -> Document:
        """Return how a card is, and nothing of its client but that there is one and when it was last seen.

        Args:
            card_id: As a person may have typed it.

        Raises:
            CardNotFoundError: there is no such card.
            DatabaseUnavailableError: the database is away.
        """
        wanted = canonical(card_id)
        found = self._database.with_connection(lambda: card_rows.find(wanted))
        if found is None:
            raise CardNotFoundError(wanted)
        row, client = found
        return {
            "id": row.id,
            "status": card_rows.as_domain(row).status(self._clock()),
            "validity_seconds": seconds(row.validity),
            "activated_at": local(row.activated_at, self._timezone),
            "expires_at": local(row.expires_at, self._timezone),
            "frozen": row.frozen_at is not None,
            "batch": row.batch,
            "note": row.note,
            "created_at": local(row.created_at, self._timezone),
            "bound": client is not None,
            "last_seen_at": local(client.requested_at, self._timezone) if client else None,
        }

    def _card_actions(self, order: Order) -> CardActions:
        return CardActions(self._database, shop_actor(order.shop.name), self._clock)

    def _once(self, order: Order, act: Callable[[], Document]) -> Answer:
        for _ in range(_ATTEMPTS):
            try:
                # May be run again after a commit whose answer was lost: the order is found done then.
                return self._database.with_connection(lambda: self._attempt(order, act))
            except ConflictError:
                continue
        logger.error("gave up an order: others were in the way at every attempt", extra={"shop": order.shop.name})
        raise DatabaseUnavailableError("others were in the way at every attempt")

    def _attempt(self, order: Order, act: Callable[[], Document]) -> Answer:
        token_id, key = order.shop.id, order.key
        with self._database.atomic():
            if api_requests.claim(token_id, key, order.request_sha256, self._clock()):
                body = json.dumps(act(), ensure_ascii=False)
                api_requests.keep(token_id, key, order.status, body)
                return Answer(order.status, body, is_replayed=False)
            kept = api_requests.find(token_id, key)
        if kept is None:
            raise ConflictError("the key was pruned at this moment")
        if kept.request_sha256 != order.request_sha256:
            raise OrderChangedError
        return Answer(kept.status, kept.body, is_replayed=True)


def _told(outcome: ActionResult) -> Document:
    return {"changed": list(outcome.changed), "revived_unbound": list(outcome.revived_unbound)}
