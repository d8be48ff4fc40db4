"""A shop (发卡平台) and customers who help themselves, as tests play them."""

import json
import secrets
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from app.domain.licence.terms import Terms
from app.domain.operators.operators import Scope
from app.domain.operators.token_limits import TokenLimits
from app.runtime.clock import utc_now
from app.services.licence.terms import VendorTerms
from app.services.shop.idempotency import CLAIM_SECONDS
from app.services.shop.shop_tokens import ShopTokens
from app.storage.database import Database
from tests.support.licence.in_force import wait_in_force
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
        named = {"Content-Type": "application/json", "Idempotency-Key": key or secrets.token_hex(8)}
        return json.dumps(document).encode(), {**self.headers, **named, **headers}

    def issue(self, count: int = 1, validity: str = "30d", **more: Any) -> list[str]:
        answer = self.post(CARDS, {"validity": validity, "count": count, **more})
        assert answer.status == 201, answer
        return [card["id"] for card in answer.body["cards"]]

    def look_up(self, card_id: str) -> Response:
        return self._service.request("GET", f"{CARDS}?{urlencode({'id': card_id})}", headers=self.headers)


JSON = {"Content-Type": "application/json"}
ALLOWED = {"self_service": "on", "self_unbind_per_30_days": "2", "self_unbind_cost": "1d", "self_renew": "batch"}


def set_terms(database: Database, **changes: str) -> Terms:
    return VendorTerms(database, "tester", utc_now).change(changes.items())


class Customers:
    """Customers of a service behind a proxy, each at an address of their own."""

    def __init__(self, service: Service, database: Database, **terms: str) -> None:
        self.service = service
        self._database = database
        self._asked = 0
        self.allow(**(terms or ALLOWED))

    def allow(self, **changes: str) -> None:
        """Change the terms, and wait until they are in force in every process."""
        set_terms(self._database, **changes)
        wait_in_force(self._database.execute_sql)

    def ask(self, what: str, *, address: str | None = None, **fields: Any) -> Response:
        """Send a request; its address is a new one where none is given."""
        self._asked += 1
        address = address or f"198.51.{self._asked // 250 % 250}.{self._asked % 250 + 1}"
        return self.send(what, json.dumps(fields).encode(), address)

    def send(self, what: str, body: bytes, address: str = "198.51.100.251") -> Response:
        return self.service.request("POST", f"/v1/self/{what}", body, JSON | {"X-Real-IP": address})
