"""PostgreSQL stopped under load, and workers killed: acknowledged activations stand, and the service recovers."""

import os
import signal
from pathlib import Path

import pytest

from app.storage.database import Database, connect_to
from app.storage.models import Card
from tests.support.load import Load
from tests.support.processes import children_of
from tests.support.service import Service, question, wait_for
from trial.postgres import EmbeddedPostgres


@pytest.mark.parametrize("mode", ["fast", "kill"])
def test_the_database_stops_and_starts_under_load(own_postgres: EmbeddedPostgres, tmp_path: Path, mode: str) -> None:
    with Service(tmp_path, own_postgres.url()) as service:
        with Load(service, service.issue(60_000)) as load:
            load.reached(200, 50)
            if mode == "fast":
                own_postgres.stop()
            else:
                assert own_postgres.pid
                os.kill(own_postgres.pid, signal.SIGKILL)
            load.reached(503, 30)
            assert service.get("/healthz").status == 200
            if mode == "fast":
                assert service.get("/readyz").status == 503
            own_postgres.start()
            load.reached(200, 200)
        assert set(load.statuses) == {200, 503}
        assert load.without_retry_after == 0
        assert service.get("/readyz").status == 200
        database = connect_to(Database(own_postgres.url(), bulk=True))
        database.connect()
        found = {row.id for row in Card.select(Card.id).where(Card.is_activated)}
        database.close()
        assert set(load.activated) <= found


def test_a_killed_worker_is_replaced_while_the_others_serve(service: Service) -> None:
    (card_id,) = service.issue()
    workers = wait_for(lambda: children_of(service.process.pid) if service.process else [])
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    for _ in range(20):
        assert service.verify(question(card_id)).status == 200
    wait_for(lambda: len(children_of(service.process.pid)) == 2 and workers[0] not in children_of(service.process.pid))
    assert service.verify(question(card_id)).status == 200


def test_a_service_that_starts_before_its_database_recovers(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    with Service(tmp_path, own_postgres.url()) as first:
        (card_id,) = first.issue()
    own_postgres.stop()
    with Service(tmp_path, own_postgres.url()) as service:
        assert service.verify(question(card_id)).status == 503
        own_postgres.start()
        wait_for(lambda: service.verify(question(card_id)).status == 200)
