"""Customers who help themselves, and the terms that let them."""

import json
import time
from typing import Any

from app.clock import utc_now
from app.domain.terms import Terms
from app.services.terms import VendorTerms
from app.storage.database import Database
from tests.support.service import Response, Service

JSON = {"Content-Type": "application/json"}
_IN_FORCE_SECONDS, _STEPS = 2, 20
ALLOWED = {"self_service": "on", "self_unbind_per_30_days": "2", "self_unbind_cost": "1d", "self_renew": "batch"}


def set_terms(database: Database, **changes: str) -> Terms:
    """Change the vendor's terms straight in the database."""
    return VendorTerms(database, "tester", utc_now).change(changes.items())


def wait_in_force() -> None:
    """Wait until every process must hold a change, by the contract; start over if the machine stood still."""
    left, end = _STEPS, time.monotonic() + 60
    while left:
        began = time.monotonic()
        assert began < end, "the machine keeps standing still"
        time.sleep(_IN_FORCE_SECONDS / _STEPS)
        stood_still = time.monotonic() - began > 3 * _IN_FORCE_SECONDS / _STEPS
        left = _STEPS if stood_still else left - 1


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
        wait_in_force()

    def ask(self, what: str, *, address: str | None = None, **fields: Any) -> Response:
        """Send a request; its address is a new one where none is given."""
        self._asked += 1
        address = address or f"198.51.{self._asked // 250 % 250}.{self._asked % 250 + 1}"
        return self.send(what, json.dumps(fields).encode(), address)

    def send(self, what: str, body: bytes, address: str = "198.51.100.251") -> Response:
        """Send these bytes."""
        return self.service.request("POST", f"/v1/self/{what}", body, JSON | {"X-Real-IP": address})
