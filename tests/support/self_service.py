"""Customers who help themselves, and the terms that let them."""

import json
from typing import Any

from app.domain.licence.terms import Terms
from app.runtime.clock import utc_now
from app.services.licence.terms import VendorTerms
from app.storage.database import Database
from tests.support.licence.in_force import wait_in_force
from tests.support.services.service import Response, Service

JSON = {"Content-Type": "application/json"}
ALLOWED = {"self_service": "on", "self_unbind_per_30_days": "2", "self_unbind_cost": "1d", "self_renew": "batch"}


def set_terms(database: Database, **changes: str) -> Terms:
    """Change the vendor's terms straight in the database."""
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
        """Send these bytes."""
        return self.service.request("POST", f"/v1/self/{what}", body, JSON | {"X-Real-IP": address})
