"""A shop (发卡平台), as tests play it."""

import json
import secrets
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from app.domain.operators.operators import Scope
from app.domain.operators.token_limits import TokenLimits
from app.runtime.clock import utc_now
from app.services.shop.idempotency import CLAIM_SECONDS
from app.services.shop.shop_tokens import ShopTokens
from app.storage.database import Database
from tests.support.services.service import Response, Service

CARDS = "/v1/shop/cards"
NO_LIMITS = TokenLimits()
"""As of a token from before there were limits."""


class Shop:
    """Speaks to a service with a token of its own, without limits unless some are given.

    `address` is what the proxy is to have seen.
    """

    def __init__(
        self,
        service: Service,
        database: Database,
        scopes: Iterable[Scope] = Scope,
        *,
        address: str | None = None,
        limits: TokenLimits = NO_LIMITS,
    ) -> None:
        self.name = f"shop-{secrets.token_hex(4)}"
        self.tokens = ShopTokens(database, "tester", utc_now)
        self.token = self.tokens.add(self.name, list(scopes), limits)
        self.headers = {"Authorization": f"Bearer {self.token}"} | ({"X-Real-IP": address} if address else {})
        self._service = service

    def post(self, path: str, document: Any, key: str | None = None, **headers: str) -> Response:
        """Send an order, under a key of its own if none is given."""
        return self._service.request("POST", path, *self.order(document, key, **headers))

    def post_until_done(self, document: Any, key: str) -> Response:
        """Send an order of cards as a shop should: again if another with its key was under way for too long."""
        for _ in range(20):
            began = time.monotonic()
            answer = self.post(CARDS, document, key)
            if answer.status != 503:
                return answer
            assert time.monotonic() - began >= CLAIM_SECONDS, "it was refused without waiting"
            time.sleep(int(answer.headers["retry-after"]))
        raise AssertionError("the other order is still under way")

    def order(self, document: Any, key: str | None = None, **headers: str) -> tuple[bytes, dict[str, str]]:
        """Return an order's body and headers."""
        named = {"Content-Type": "application/json", "Idempotency-Key": key or secrets.token_hex(8)}
        return json.dumps(document).encode(), {**self.headers, **named, **headers}

    def issue(self, count: int = 1, validity: str = "30d", **more: Any) -> list[str]:
        """Issue cards; return their IDs."""
        answer = self.post(CARDS, {"validity": validity, "count": count, **more})
        assert answer.status == 201, answer
        return [card["id"] for card in answer.body["cards"]]

    def look_up(self, card_id: str) -> Response:
        """Ask how a card is."""
        return self._service.request("GET", f"{CARDS}?{urlencode({'id': card_id})}", headers=self.headers)
