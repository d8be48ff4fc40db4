"""Concurrent requests to four processes: exactly one wins."""
# Owns verdict-races.

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from app.storage.models import Card, Client, Event, Usage
from tests.support.concurrency import at_once
from tests.support.services.service import Response, Service, question

CARDS = 200
MACHINES = 8


def asking(service: Service, card_id: str, machine: int, round_: int = 0) -> Callable[[], Response]:
    document = question(card_id, hardware=f"machine {round_}-{machine}")
    return lambda: service.verify(document, address=f"10.{round_ // 250}.{round_ % 250}.{machine + 1}")


def codes(answers: list[Response]) -> list[Any]:
    return sorted(answer.claims["code"] for answer in answers)


def test_of_eight_machines_that_race_for_a_card_one_wins(proxied: Service) -> None:
    issued = proxied.issue(CARDS)
    for number, card_id in enumerate(issued):
        answers = at_once([asking(proxied, card_id, machine, number) for machine in range(MACHINES)])
        assert codes(answers) == ["CLIENT_MISMATCH"] * (MACHINES - 1) + ["OK"], card_id
        (winner,) = (a for a in answers if a.status == 200)
        assert winner.claims["activated"] is True
        assert Client.get(Client.card == card_id).hardware_sha256 == winner.claims["hardware_sha256"]
    assert Event.select().where(Event.kind == "activated").count() == CARDS
    assert Event.select().where(Event.code == "CLIENT_MISMATCH").count() == CARDS * (MACHINES - 1)


def test_a_machine_that_sends_four_cards_at_once_gets_one(proxied: Service) -> None:
    for number in range(20):
        issued = proxied.issue(4)
        answers = at_once([asking(proxied, card_id, 0, number) for card_id in issued])
        assert codes(answers) == ["CLIENT_HAS_ANOTHER_CARD"] * 3 + ["OK"]
        assert Card.select().where(Card.id.in_(issued) & Card.is_activated).count() == 1


def test_concurrent_requests_of_one_client_are_all_counted(proxied: Service) -> None:
    (card_id,) = proxied.issue()
    for _ in range(10):
        assert codes(at_once([asking(proxied, card_id, 0)] * 8)) == ["OK"] * 8
    assert Usage.get().count == 80
    assert Event.select().where(Event.kind == "activated").count() == 1


def test_an_extension_during_an_activation_is_not_lost(proxied: Service) -> None:
    for number in range(5):
        (card_id,) = proxied.issue(validity="1d")
        with ThreadPoolExecutor(2) as pool:
            extending = pool.submit(proxied.forked_cardctl, "card", "extend", card_id, "--by", "1d")
            while not extending.done():
                answer = asking(proxied, card_id, 0, number)()
                assert answer.status == 200
        card = Card.get_by_id(card_id)
        assert (card.expires_at - card.activated_at).days == 2
