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
def executing(folder: Path, database_url: str, slots: int, **more: str) -> Iterator[Service]:
    """A service of one process and one native thread beside a functions service with so many slots."""
    limit = {"KADUN_FUNCTION_SECONDS": "120"}
    settings = {"KADUN_WORKERS": "1", "KADUN_THREADS": "1", **limit, **more}
    with (
        FunctionsService(folder, KADUN_FUNCTION_CONCURRENCY=str(slots), **limit).with_shop(),
        Service(folder, database_url, **settings) as service,
    ):
        yield service


@pytest.fixture
def with_one_slot(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with executing(tmp_path, database_url, slots=1) as service:
        yield service


def test_the_verdicts_time_is_the_answers_and_the_activations_time_the_decisions(
    with_one_slot: Service,
) -> None:
    (card_id,) = with_one_slot.issue()
    held = Held(with_one_slot)
    held.call(card_id)
    decided_by = int(time.time())
    wait_for(lambda: time.time() > decided_by + 1)
    (answer,) = held.release()
    assert answer.claims["card_activated_at"] <= decided_by < answer.claims["iat"]
    assert answer.claims["exp"] - answer.claims["iat"] == TOKEN_SECONDS


def test_calls_beyond_the_slots_are_refused_and_everything_else_is_served(
    with_one_slot: Service,
) -> None:
    service = with_one_slot
    first, second, frozen = service.issue(3)
    service.cardctl("card", "freeze", frozen)
    held = Held(service)
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


@pytest.fixture
def proxied(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service that is told each client's address, with four slots for calls."""
    with executing(tmp_path, database_url, slots=4, KADUN_BEHIND_PROXY="true") as service:
        yield service


def test_calls_that_wait_take_no_threads(proxied: Service) -> None:
    *cards, late = proxied.issue(5)
    held = Held(proxied)
    for number, card_id in enumerate(cards):
        held.call(card_id, f"machine-{number}", f"192.0.2.{number}")
    arguments = {"a": 1, "b": 1}
    assert execute(proxied, late, "求和", arguments, hardware="machine-late", address="192.0.2.9").status == 503
    assert proxied.verify(question(cards[0], hardware="machine-0"), address="192.0.2.0").status == 200
    assert [answer.claims["result"] for answer in held.release()] == ["done"] * 4


def test_a_card_has_one_call_an_address_two_and_neither_takes_the_last_slot(proxied: Service) -> None:
    cards = proxied.issue(6)

    def status(card: int, address: str) -> int:
        arguments = {"a": 1, "b": 1}
        return execute(proxied, cards[card], "求和", arguments, hardware=f"machine-{card}", address=address).status

    held = Held(proxied)
    held.call(cards[0], "machine-0", "2001:db8::1")
    assert status(0, "2001:db8::1") == 503, "the card's second call"
    assert status(0, "192.0.2.1") == 503, "from another address, too"
    held.call(cards[1], "machine-1", "2001:db8::2")
    assert status(2, "2001:db8::3") == 503, "the third call of one /64"
    assert status(2, "2001:db8:0:1::3") == 200
    held.call(cards[3], "machine-3", "192.0.2.3")
    assert status(4, "192.0.2.3") == 503, "the last slot, and the address has a call under way"
    assert status(4, "2001:db8:0:1::3") == 503, "and so has the /48"
    assert status(5, "192.0.2.5") == 200
    assert [answer.claims["result"] for answer in held.release()] == ["done"] * 3
    assert status(0, "2001:db8::1") == 200


def test_a_call_under_way_holds_no_transaction(with_one_slot: Service, database: Database) -> None:
    service = with_one_slot
    (card_id,) = service.issue()
    held = Held(service)
    held.call(card_id)
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%'"
    # Other services' are over in a moment. PostgreSQL would end the call's after 30 s, by the service's settings.
    wait_for(lambda: database.execute_sql(sessions).fetchone()[0] == 0, 10)
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
