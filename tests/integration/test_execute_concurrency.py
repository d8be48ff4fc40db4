"""`POST /v1/execute` under load: how many calls run at once, of all and of one card, and what they leave free."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.services.licence import TOKEN_SECONDS
from app.storage.database import Database
from tests.support.executing import Held, execute
from tests.support.functions_service import FunctionsService
from tests.support.service import Service, question, wait_for


@contextmanager
def executing(folder: Path, database_url: str, slots: int) -> Iterator[Service]:
    """A service of one process and one native thread beside a functions service with so many slots."""
    settings = {"KADUN_WORKERS": "1", "KADUN_THREADS": "1"}
    with (
        FunctionsService(folder, KADUN_FUNCTION_CONCURRENCY=str(slots)).with_shop(),
        Service(folder, database_url, **settings) as service,
    ):
        yield service


@pytest.fixture
def with_one_slot(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with executing(tmp_path, database_url, slots=1) as service:
        yield service


def test_the_verdicts_time_is_the_answers_and_the_activations_time_the_decisions(
    with_one_slot: Service, tmp_path: Path
) -> None:
    (card_id,) = with_one_slot.issue()
    held = Held(with_one_slot, tmp_path)
    held.call(card_id)
    decided_by = int(time.time())
    wait_for(lambda: time.time() > decided_by + 1)
    (answer,) = held.release()
    assert answer.claims["card_activated_at"] <= decided_by < answer.claims["iat"]
    assert answer.claims["exp"] - answer.claims["iat"] == TOKEN_SECONDS


def test_calls_beyond_the_slots_are_refused_and_everything_else_is_served(
    with_one_slot: Service, tmp_path: Path
) -> None:
    service = with_one_slot
    first, second, frozen = service.issue(3)
    service.cardctl("card", "freeze", frozen)
    held = Held(service, tmp_path)
    held.call(first)
    busy = execute(service, second, "求和", {"a": 1, "b": 1}, hardware="machine-2")
    assert (busy.status, busy.body["code"]) == (503, "UNAVAILABLE")
    assert int(busy.headers["retry-after"]) > 0
    assert execute(service, frozen, "求和", {}, hardware="machine-3").body["code"] == "CARD_FROZEN"
    for _ in range(20):
        assert service.verify(question(first)).status == 200
    assert not held.calls[0].done()
    assert [answer.claims["result"] for answer in held.release()] == ["done"]
    assert execute(service, second, "求和", {"a": 1, "b": 1}, hardware="machine-2").status == 200


def test_calls_that_wait_take_no_threads(database_url: str, tmp_path: Path) -> None:
    with executing(tmp_path, database_url, slots=6) as service:
        *cards, late = service.issue(7)
        held = Held(service, tmp_path)
        for number, card_id in enumerate(cards):
            held.call(card_id, f"machine-{number}")
        assert execute(service, late, "求和", {"a": 1, "b": 1}, hardware="machine-late").status == 503
        assert service.verify(question(cards[0], hardware="machine-0")).status == 200
        assert [answer.claims["result"] for answer in held.release()] == ["done"] * 6


def test_one_card_cannot_use_every_slot_of_the_functions_service(database_url: str, tmp_path: Path) -> None:
    with executing(tmp_path, database_url, slots=2) as service:
        greedy, modest, late = service.issue(3)
        held = Held(service, tmp_path)
        held.call(greedy)
        assert execute(service, greedy, "求和", {"a": 1, "b": 1}).status == 503
        held.call(modest, "machine-2")
        assert execute(service, late, "求和", {"a": 1, "b": 1}, hardware="machine-3").status == 503
        assert [answer.claims["result"] for answer in held.release()] == ["done"] * 2


def test_a_call_under_way_holds_no_transaction(with_one_slot: Service, database: Database, tmp_path: Path) -> None:
    service = with_one_slot
    (card_id,) = service.issue()
    held = Held(service, tmp_path)
    held.call(card_id)
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%'"
    assert database.execute_sql(sessions).fetchone()[0] == 0
    service.cardctl("card", "freeze", card_id)
    (answer,) = held.release()
    assert answer.claims["result"] == "done"


def test_without_the_functions_service_calls_are_unavailable_and_cards_are_still_verified(
    own_service: Service,
) -> None:
    service = own_service
    (card_id,) = service.issue()
    answer = execute(service, card_id, "求和", {"a": 1, "b": 1})
    assert (answer.status, answer.body["code"]) == (503, "UNAVAILABLE")
    assert "retry-after" in answer.headers
    assert execute(service, "0" * 32, "求和", {}).body["code"] == "CARD_NOT_FOUND"
    assert service.verify(question(card_id)).status == 200
