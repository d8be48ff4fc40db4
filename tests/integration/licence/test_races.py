"""Activations in races, of which exactly one wins, and under a database that is killed: what was answered stands."""
# Owns verdict-races, verdict-faults.

import os
import signal
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from app.storage.database import Database, connect_to
from app.storage.models import Card, Client, Event, Usage
from tests.support.concurrency import at_once
from tests.support.licence.customers import Load
from tests.support.services.service import Response, Service, question, wait_for
from trial.postgres import EmbeddedPostgres
from trial.programs import TrialError

CARDS, MACHINES, THREADS = 200, 8, 8


def asking(service: Service, card_id: str, machine: int, round_: int = 0) -> Callable[[], Response]:
    document = question(card_id, hardware=f"machine {round_}-{machine}")
    return lambda: service.verify(document, address=f"10.{round_ // 250}.{round_ % 250}.{machine + 1}")


def codes(answers: list[Response]) -> list[Any]:
    return sorted(answer.claims["code"] for answer in answers)


def test_of_eight_machines_that_race_for_a_card_one_wins(proxied: Service) -> None:
    for number, card_id in enumerate(proxied.issue(CARDS)):
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
            extending = pool.submit(proxied.run_cardctl, "card", "extend", card_id, "--by", "1d")
            while not extending.done():
                assert asking(proxied, card_id, 0, number)().status == 200
        card = Card.get_by_id(card_id)
        assert (card.expires_at - card.activated_at).days == 2


class Activations(Load):
    """Customers who activate one card after another."""

    def __init__(self, service: Service, cards: list[str]) -> None:
        super().__init__(self._activate, THREADS)
        self._service, self._cards = service, deque(cards)
        self.activated: list[str] = []
        self.statuses: list[int] = []

    def _activate(self) -> None:
        card_id = self._cards.popleft()
        answer = self._service.verify(question(card_id, hardware=f"machine of {card_id}"))
        self.statuses.append(answer.status)
        if answer.status == 200:
            self.activated.append(card_id)
        else:
            assert "retry-after" in answer.headers, answer

    def reached(self, status: int, more: int) -> None:
        """Wait for `more` answers of this status."""
        goal = self.statuses.count(status) + more
        wait_for(lambda: self.statuses.count(status) >= goal, 40)


NEW_CARDS = """
INSERT INTO card (id, validity, created_at) SELECT lpad(number::text, 32, '0'), '30 days', now()
FROM generate_series(1, 60000) AS number RETURNING id
"""  # `card issue` would take longer than all else here


def starts(postgres: EmbeddedPostgres) -> bool:
    """Whether it starts: not before the last process of a killed server has ended."""
    try:
        postgres.start()
    except TrialError:
        return False
    return True


def test_the_database_is_killed_and_starts_under_load(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    database = connect_to(Database(own_postgres.url(), bulk=True))
    with Service(tmp_path, own_postgres.url()) as service:
        cards = [card_id for (card_id,) in database.execute_sql(NEW_CARDS)]
        database.close()
        with Activations(service, cards) as load:
            load.reached(200, 50)
            assert own_postgres.pid
            os.kill(own_postgres.pid, signal.SIGKILL)
            own_postgres.stop()
            load.reached(503, 30)
            assert service.get("/healthz").status == 200
            assert service.get("/readyz").status == 503
            wait_for(lambda: starts(own_postgres))
            load.reached(200, 200)
        assert set(load.statuses) == {200, 503}
        assert load.failures == []
        assert service.get("/readyz").status == 200
        with database.connection_context():
            assert set(load.activated) <= {row.id for row in Card.select(Card.id).where(Card.is_activated)}


def test_a_service_that_starts_before_its_database_recovers(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    with Service(tmp_path, own_postgres.url()) as first:
        (card_id,) = first.issue()
    own_postgres.stop()
    with Service(tmp_path, own_postgres.url()) as service:
        assert service.verify(question(card_id)).status == 503
        own_postgres.start()
        wait_for(lambda: service.verify(question(card_id)).status == 200)
