"""Customers at the same moment, over four processes: one winner, and nothing half done."""

from datetime import timedelta
from functools import partial

import pytest

from app.storage.database import Database
from app.storage.models import Card, Client, Event
from tests.integration.test_races import at_once
from tests.support.self_service import Customers
from tests.support.service import Response, Service, question
from tests.support.slow_requests import hold_up

ROUNDS = 20
DAY = timedelta(days=1)


@pytest.fixture
def customers(proxied: Service, database: Database) -> Customers:
    return Customers(proxied, database)


def codes(answers: list[Response]) -> list[object]:
    return sorted(answer.body.get("reason", answer.body.get("code", "OK")) for answer in answers)


def in_use(service: Service, card_id: str, machine: str) -> Card:
    assert service.verify(question(card_id, machine), address="192.0.2.1").status == 200
    return Card.get_by_id(card_id)


def test_of_customers_who_renew_with_the_same_card_one_succeeds(customers: Customers) -> None:
    for number in range(ROUNDS):
        *own, new = customers.service.issue(5)
        before = {card_id: in_use(customers.service, card_id, f"{number} {card_id}").expires_at for card_id in own}
        answers = at_once([partial(customers.ask, "renew", card_id=card_id, with_card_id=new) for card_id in own])
        assert codes(answers) == ["OK"] + ["second_card_spent"] * 3
        gained = {card_id for card_id in own if Card.get_by_id(card_id).expires_at == before[card_id] + 30 * DAY}
        assert gained == {Card.get_by_id(new).renewed_card_id}
        assert {card_id for card_id in own if Card.get_by_id(card_id).expires_at == before[card_id]} == {*own} - gained
    assert Event.select().where(Event.kind == "renewed").count() == 2 * ROUNDS


def test_of_two_cards_that_renew_each_other_one_is_spent(customers: Customers) -> None:
    for _ in range(ROUNDS):
        one, two = customers.service.issue(2)
        answers = at_once(
            [
                partial(customers.ask, "renew", card_id=one, with_card_id=two),
                partial(customers.ask, "renew", card_id=two, with_card_id=one),
            ]
        )
        assert codes(answers) == ["OK", "card_spent"]
        assert {Card.get_by_id(one).renewed_card_id, Card.get_by_id(two).renewed_card_id} in ({one, None}, {two, None})


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


def test_of_unbindings_at_once_each_is_paid_and_counted_once(customers: Customers) -> None:
    for number in range(ROUNDS):
        (card_id,) = customers.service.issue()
        before = in_use(customers.service, card_id, f"{number}").expires_at
        answers = at_once([partial(customers.ask, "unbind", card_id=card_id)] * 4)
        assert codes(answers) == ["OK"] * 4
        assert Card.get_by_id(card_id).expires_at == before - DAY
        assert Event.select().where((Event.kind == "self_unbound") & (Event.card_id == card_id)).count() == 1


def test_unbinding_while_other_machines_ask_leaves_one_client_or_none(customers: Customers) -> None:
    service = customers.service
    for number in range(ROUNDS):
        (card_id,) = service.issue()
        in_use(service, card_id, f"{number} old")
        unbound, *verified = at_once(
            [
                partial(customers.ask, "unbind", card_id=card_id),
                *[
                    partial(service.verify, question(card_id, f"{number} {machine}"), address=f"203.0.113.{machine}")
                    for machine in range(1, 4)
                ],
            ]
        )
        assert unbound.status == 200
        accepted = [answer.claims["hardware_sha256"] for answer in verified if answer.status == 200]
        assert [row.hardware_sha256 for row in Client.select().where(Client.card == card_id)] == accepted
        assert len(accepted) <= 1
        assert {answer.body["code"] for answer in verified} <= {"OK", "CLIENT_MISMATCH"}


def test_a_site_that_keeps_cards_locked_keeps_no_customer_waiting(one_worker: Service, database: Database) -> None:
    customers = Customers(one_worker, database)
    locked, mine = one_worker.issue(2)
    flood = [
        partial(customers.ask, "unbind", address=f"2001:db8:1:{network:x}::1", card_id=locked) for network in range(12)
    ]
    hold_up(one_worker, "SELECT FROM card WHERE id = %s FOR UPDATE", flood, mine, [locked])
    assert customers.ask("status", card_id=mine).status == 200
