"""`/v1/self/…` over HTTP: off by default, strict about its input, and right at once."""
# Owns self-http.

import json
from datetime import datetime, timedelta
from functools import partial

import pytest

from app.runtime.clock import utc_now
from app.services.licence.blocks import Blocks
from app.storage.database import Database
from app.storage.models import Card, Client, Event
from tests.support.concurrency import at_once
from tests.support.downloads import CONTENT, DOWNLOAD, NAME, fetch, is_problem, put
from tests.support.licence.in_force import wait_in_force
from tests.support.self_service import JSON, Customers
from tests.support.services.service import Response, Service, question
from tests.support.services.slow_requests import hold_up

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


def test_a_customer_looks_up_unbinds_and_renews_and_never_sees_what_a_card_is_bound_to(customers: Customers) -> None:
    service = customers.service
    own, new = service.issue(2)
    assert service.verify(question(own), address="192.0.2.1").status == 200
    before = customers.ask("status", card_id=own)
    assert before.headers["cache-control"] == "no-store"
    always = {"expires_at": before.body["expires_at"], "unbinds_left": 2, "next_unbind_at": None}
    assert before.body == {"status": "active", "bound": True, **always}
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
    assert datetime.fromisoformat(refused.body["next_unbind_at"]).utcoffset() == timedelta(hours=8)
    assert customers.ask("status", card_id=own).body["next_unbind_at"] == refused.body["next_unbind_at"]
    refused = customers.ask("renew", card_id=own, with_card_id=own)
    assert (refused.status, refused.body["code"], refused.body["reason"]) == (403, "RENEW_NOT_ALLOWED", "same_card")
    for route, first, second, field in (
        ("status", "0" * 32, None, "card_id"),
        ("renew", "0" * 32, own, "card_id"),
        ("renew", own, "0" * 32, "with_card_id"),
    ):
        unknown = customers.ask(route, card_id=first, **({"with_card_id": second} if second else {}))
        assert (unknown.status, unknown.body["code"], unknown.body["field"]) == (404, "CARD_NOT_FOUND", field)
    assert unknown.body["reason"] == "second_card_not_found"
    invalid = customers.send("status", b'{"card_id": "abc", "hardware": "m1"}')
    assert (invalid.status, invalid.body["code"], invalid.body["field"]) == (400, "INVALID_REQUEST", "hardware")


def test_a_blocked_address_gets_neither_self_service_nor_downloads(customers: Customers, database: Database) -> None:
    service, blocked = customers.service, "203.0.113.7"
    put(service, NAME, CONTENT)
    (card_id,) = service.issue()
    body = json.dumps(question(card_id, function=DOWNLOAD)).encode()
    offered = service.request("POST", "/v1/files", body, JSON | {"X-Real-IP": blocked})
    (url,) = (file["url"] for file in offered.claims["files"])
    blocks = Blocks(database, "tester", utc_now)
    blocks.add(blocks.network("203.0.113.0/24"), "charged back")
    wait_in_force(database.execute_sql)
    for route in ROUTES:
        answer = customers.ask(route, address=blocked, card_id=card_id, with_card_id=card_id)
        assert (answer.status, answer.body["code"]) == (403, "CLIENT_BLOCKED")
    is_problem(fetch(service, url, X_Real_IP=blocked), 403, "CLIENT_BLOCKED")
    page = fetch(service, "/card", X_Real_IP=blocked)
    assert (page.status, page.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert "x-accel-redirect" in fetch(service, url, X_Real_IP="198.51.100.9").headers
    assert customers.ask("status", card_id=card_id).status == 200


ROUNDS = 20
DAY = timedelta(days=1)


def codes(answers: list[Response]) -> list[object]:
    return sorted(answer.body.get("reason", answer.body.get("code", "OK")) for answer in answers)


def in_use(service: Service, card_id: str, machine: str) -> Card:
    assert service.verify(question(card_id, machine), address="192.0.2.1").status == 200
    return Card.get_by_id(card_id)


def test_of_renewals_with_the_same_card_or_of_each_other_one_succeeds(customers: Customers) -> None:
    def renew(card_id: str, with_card_id: str) -> partial[Response]:
        return partial(customers.ask, "renew", card_id=card_id, with_card_id=with_card_id)

    for number in range(ROUNDS):
        *own, new, one, two = customers.service.issue(7)
        before = {card_id: in_use(customers.service, card_id, f"{number} {card_id}").expires_at for card_id in own}
        assert codes(at_once([renew(card_id, new) for card_id in own])) == ["OK"] + ["second_card_spent"] * 3
        gained = {card_id for card_id in own if Card.get_by_id(card_id).expires_at == before[card_id] + 30 * DAY}
        assert gained == {Card.get_by_id(new).renewed_card_id}
        assert {card_id for card_id in own if Card.get_by_id(card_id).expires_at == before[card_id]} == {*own} - gained
        assert codes(at_once([renew(one, two), renew(two, one)])) == ["OK", "card_spent"]
        assert {Card.get_by_id(one).renewed_card_id, Card.get_by_id(two).renewed_card_id} in ({one, None}, {two, None})
    assert Event.select().where(Event.kind == "renewed").count() == 4 * ROUNDS


def test_an_activation_and_a_renewal_with_the_same_card_exclude_each_other(customers: Customers) -> None:
    service = customers.service
    for number in range(ROUNDS):
        own, new = service.issue(2)
        verified, renewed = at_once(
            [
                partial(service.verify, question(new, f"{number}"), address="192.0.2.1"),
                partial(customers.ask, "renew", card_id=own, with_card_id=new),
            ]
        )
        card = Card.get_by_id(new)
        assert (verified.status, renewed.status) == ((200, 403) if card.is_activated else (403, 200))
        assert verified.body["code"] == ("OK" if card.is_activated else "CARD_SPENT")
        assert Client.select().where(Client.card == new).count() == card.is_activated
        assert (card.renewed_card_id is None) == card.is_activated


def test_customers_who_keep_cards_locked_keep_no_customer_waiting(one_worker: Service, database: Database) -> None:
    customers = Customers(one_worker, database)
    locked, mine = one_worker.issue(2)
    flood = [
        partial(customers.ask, "unbind", address=f"2001:db8:1:{network:x}::1", card_id=locked) for network in range(12)
    ]
    hold_up(one_worker, "SELECT FROM card WHERE id = %s FOR UPDATE", flood, mine, [locked])
    assert customers.ask("status", card_id=mine).status == 200
