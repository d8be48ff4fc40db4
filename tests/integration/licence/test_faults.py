"""PostgreSQL stopped under load: acknowledged activations stand, and the service recovers."""
# Owns verdict-faults.

import os
import signal
from collections import deque
from pathlib import Path

from app.storage.database import Database, connect_to
from app.storage.models import Card
from tests.support.licence.customers import Load
from tests.support.services.service import Service, question, wait_for
from trial.postgres import EmbeddedPostgres
from trial.programs import TrialError

THREADS = 8


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


def new_cards(database_url: str, count: int) -> list[str]:
    """Write so many unused cards; `card issue` would take longer than all else here."""
    database = Database(database_url, bulk=True)
    database.execute_sql(
        "INSERT INTO card (id, validity, created_at) SELECT lpad(number::text, 32, '0'), '30 days', now()"
        " FROM generate_series(1, %s) AS number",
        (count,),
    )
    database.close()
    return [f"{number:032d}" for number in range(1, count + 1)]


def starts(postgres: EmbeddedPostgres) -> bool:
    """Whether it starts: not before the last process of a killed server has ended."""
    try:
        postgres.start()
    except TrialError:
        return False
    return True


def test_the_database_is_killed_and_starts_under_load(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    with Service(tmp_path, own_postgres.url()) as service:
        with Activations(service, new_cards(own_postgres.url(), 60_000)) as load:
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
        database = connect_to(Database(own_postgres.url(), bulk=True))
        database.connect()
        found = {row.id for row in Card.select(Card.id).where(Card.is_activated)}
        database.close()
        assert set(load.activated) <= found


def test_a_service_that_starts_before_its_database_recovers(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    with Service(tmp_path, own_postgres.url()) as first:
        (card_id,) = first.issue()
    own_postgres.stop()
    with Service(tmp_path, own_postgres.url()) as service:
        assert service.verify(question(card_id)).status == 503
        own_postgres.start()
        wait_for(lambda: service.verify(question(card_id)).status == 200)
