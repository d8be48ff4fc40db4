"""`/v1/self/…` over HTTP: off by default, strict about its input, and at a customer's pace."""

import json
from datetime import datetime, timedelta

import pytest

from app.clock import utc_now
from app.services.blocks import Blocks
from app.services.pace import BURST
from app.storage.database import Database
from app.storage.models import Block, Event
from tests.support.downloads import CONTENT, DOWNLOAD, NAME, fetch, is_problem, put
from tests.support.in_force import wait_in_force
from tests.support.self_service import JSON, Customers
from tests.support.service import Service, question, wait_for

ROUTES = ("status", "unbind", "renew")


@pytest.fixture
def customers(proxied: Service, database: Database) -> Customers:
    return Customers(proxied, database)


def test_without_the_term_every_route_is_404(proxied: Service, database: Database) -> None:
    customers = Customers(proxied, database, self_renew="any", self_unbind_per_30_days="9")
    (card_id,) = proxied.issue()
    for route in ROUTES:
        answer = customers.ask(route, card_id=card_id, with_card_id=card_id)
        assert (answer.status, answer.body["code"]) == (404, "NOT_FOUND")
        assert customers.send(route, b"{").status == 404, "before the body is read"
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        for path in ("/card", *(f"/v1/self/{route}" for route in ROUTES)):
            assert proxied.request(method, path, None, {"X-Real-IP": "198.51.100.1"}).status == 404, (method, path)
    assert not Event.select().where(Event.kind == "rejected").exists()


def test_a_customer_looks_up_unbinds_and_renews(customers: Customers) -> None:
    service = customers.service
    own, new = service.issue(2)
    assert service.verify(question(own), address="192.0.2.1").status == 200
    before = customers.ask("status", card_id=own)
    assert before.headers["cache-control"] == "no-store"
    assert (before.body["status"], before.body["bound"], before.body["unbinds_left"]) == ("active", True, 2)
    unbound = customers.ask("unbind", card_id=f" {own.lower()} ").body
    assert (unbound["bound"], unbound["unbinds_left"], unbound["next_unbind_at"]) == (False, 1, None)
    until = datetime.fromisoformat(before.body["expires_at"])
    assert until.utcoffset() == timedelta(hours=8)
    assert datetime.fromisoformat(unbound["expires_at"]) == until - timedelta(days=1)
    renewed = customers.ask("renew", card_id=own, with_card_id=new).body
    assert datetime.fromisoformat(renewed["expires_at"]) == until + timedelta(days=29)
    assert customers.ask("status", card_id=new).body["status"] == "spent"
    assert service.verify(question(own, "another"), address="192.0.2.2").status == 200


def test_refusals_say_when_or_why(customers: Customers) -> None:
    service = customers.service
    customers.allow(self_unbind_per_30_days="1")
    (own,) = service.issue()
    for machine in ("m1", "m2"):
        assert service.verify(question(own, machine), address="192.0.2.1").status == 200
        refused = customers.ask("unbind", card_id=own)
    assert (refused.status, refused.body["code"]) == (403, "UNBIND_NOT_ALLOWED")
    at = datetime.fromisoformat(refused.body["next_unbind_at"])
    assert customers.ask("status", card_id=own).body["next_unbind_at"] == refused.body["next_unbind_at"]
    assert timedelta(days=29) < at - datetime.now(at.tzinfo) < timedelta(days=30, seconds=2)
    refused = customers.ask("renew", card_id=own, with_card_id=own)
    assert (refused.status, refused.body["code"], refused.body["reason"]) == (403, "RENEW_NOT_ALLOWED", "same_card")
    for unknown in (
        customers.ask("status", card_id="0" * 32),
        customers.ask("renew", card_id="0" * 32, with_card_id=own),
    ):
        assert (unknown.status, unknown.body["code"], unknown.body["field"]) == (404, "CARD_NOT_FOUND", "card_id")
    second = customers.ask("renew", card_id=own, with_card_id="0" * 32)
    assert (second.status, second.body["code"], second.body["field"]) == (404, "CARD_NOT_FOUND", "with_card_id")
    assert second.body["reason"] == "second_card_not_found"
    customers.allow(self_unbind_per_30_days="")
    never = customers.ask("unbind", card_id=own)
    assert (never.body["code"], never.body["next_unbind_at"]) == ("UNBIND_NOT_ALLOWED", None)


WRONG: list[tuple[str, bytes, str | None]] = [
    ("status", b"{}", "card_id"),
    ("status", b'{"card_id": " "}', "card_id"),
    ("unbind", b'{"card_id": null}', "card_id"),
    ("unbind", b'{"card_id": "' + b"x" * 65 + b'"}', "card_id"),
    ("unbind", b'{"card_id": "a", "card_id": "b"}', "card_id"),
    ("status", b'{"card_id": "a\\u0000"}', "card_id"),
    ("renew", b'{"card_id": "abc"}', "with_card_id"),
    ("renew", b'{"card_id": "abc", "with_card_id": ["abc"]}', "with_card_id"),
    ("status", b'{"card_id": "abc", "hardware": "m1"}', "hardware"),
    ("status", b"[]", None),
]


def test_what_is_wrong_is_named_and_refused(customers: Customers) -> None:
    for route, body, field in WRONG:
        answer = customers.send(route, body)
        assert (answer.status, answer.body["code"]) == (400, "INVALID_REQUEST"), body
        assert answer.body.get("field") == field, body
    service, address = customers.service, {"X-Real-IP": "198.51.100.1"}
    assert service.request("POST", "/v1/self/status", b"card_id=x", address).status == 415
    assert service.request("POST", "/v1/self/status", b" " * 70_000, JSON | address).status == 413
    assert service.request("GET", "/v1/self/status", headers=address).status == 405
    assert service.request("POST", "/v1/self/status", b'{"card_id": "x"}', JSON).status == 503, "no address"


def test_a_blocked_address_gets_neither_self_service_nor_downloads(customers: Customers, database: Database) -> None:
    service, blocked = customers.service, "203.0.113.7"
    put(service, NAME, CONTENT)
    (card_id,) = service.issue()
    body = json.dumps(question(card_id, function=DOWNLOAD)).encode()
    offered = service.request("POST", "/v1/files", body, JSON | {"X-Real-IP": blocked})
    (url,) = (file["url"] for file in offered.claims["files"])
    blocks = Blocks(database, "tester", utc_now)
    number = blocks.add(blocks.network("203.0.113.0/24"), "charged back")
    wait_in_force(database.execute_sql)
    for route in ROUTES:
        answer = customers.ask(route, address=blocked, card_id=card_id, with_card_id=card_id)
        assert (answer.status, answer.body["code"]) == (403, "CLIENT_BLOCKED")
    is_problem(fetch(service, url, X_Real_IP=blocked), 403, "CLIENT_BLOCKED")
    page = fetch(service, "/card", X_Real_IP=blocked)
    assert (page.status, page.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert "x-accel-redirect" in fetch(service, url, X_Real_IP="198.51.100.9").headers
    assert customers.ask("status", card_id=card_id).status == 200
    wait_for(lambda: Block.get_by_id(number).hits == len(ROUTES) + 2)


def test_an_address_that_asks_too_often_waits(customers: Customers) -> None:
    (card_id,) = customers.service.issue()
    served = []
    for _ in range(1_000):  # a slow machine needs more
        refused = customers.ask("status", address="203.0.113.7", card_id=card_id)
        if refused.status == 429:
            break
        served.append(refused)
    assert refused.status == 429
    assert len(served) >= BURST
    assert {answer.status for answer in served} == {200}
    assert refused.body["code"] == "TOO_MANY_REQUESTS"
    assert int(refused.headers["retry-after"]) >= 1
    assert customers.ask("status", card_id=card_id).status == 200
