"""A shop's order takes effect once, however often it is sent and whatever fails meanwhile."""

import http.client
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.storage.database import Database
from app.storage.models import Card, Event
from tests.integration.conftest import with_keys
from tests.support.processes import children_of
from tests.support.service import Response, Service, wait_for
from tests.support.shop import CARDS, Shop
from tests.support.tcp_proxy import Wire

ORDER = {"validity": "30d", "count": 2, "note": "order 42"}
WRITES_AN_ORDER = b'INSERT INTO "idempotency_record"'


@pytest.fixture
def shop(service: Service, database: Database) -> Shop:
    return Shop(service, database)


@pytest.fixture
def wire(database_url: str) -> Iterator[Wire]:
    with Wire(database_url, WRITES_AN_ORDER) as wire:
        yield wire


def is_replay(answer: Response) -> bool:
    return answer.headers.get("idempotency-replayed") == "true"


def sold_once() -> bool:
    return (Card.select().count(), Event.select().where(Event.kind == "issued").count()) == (2, 1)


def test_a_repeated_change_of_cards_has_no_further_effect(shop: Shop) -> None:
    (card_id,) = shop.issue(validity="1d")
    first, second = (shop.post(f"{CARDS}/extend", {"ids": [card_id], "by": "week"}, "renewal") for _ in range(2))
    assert first.body == second.body == {"changed": [card_id], "revived_unbound": []}
    assert shop.look_up(card_id).body["validity_seconds"] == 8 * 86_400
    frozen, unfrozen = (shop.post(f"{CARDS}/{what}", {"ids": [card_id]}, what) for what in ("freeze", "unfreeze"))
    assert frozen.body["changed"] == unfrozen.body["changed"] == [card_id]
    assert is_replay(shop.post(f"{CARDS}/freeze", {"ids": [card_id]}, "freeze"))
    assert shop.post(f"{CARDS}/unfreeze", {"ids": [card_id]}, "freeze").status == 422
    assert shop.look_up(card_id).body["frozen"] is False


def test_the_same_order_in_another_json_form_is_the_same(service: Service, shop: Shop) -> None:
    first = shop.post(CARDS, ORDER, "order-42")
    assert not is_replay(first)
    _, headers = shop.order(ORDER, "order-42")
    turned = json.dumps({**dict(reversed(ORDER.items())), "batch": None}, indent=2).encode()
    again = service.request("POST", CARDS, turned, headers)
    assert (again.status, again.body, is_replay(again)) == (201, first.body, True)
    assert sold_once()


def test_a_key_is_good_for_one_order(shop: Shop) -> None:
    for path, document in [
        (CARDS, {**ORDER, "count": 3}),
        (CARDS, {**ORDER, "validity": "permanent"}),
        (CARDS, {**ORDER, "validity": "month"}),  # the same time, otherwise written
        (CARDS, {"validity": "30d", "count": 2}),
        (f"{CARDS}/freeze", {"ids": ["0" * 32]}),
    ]:
        shop.post(CARDS, ORDER, "order-42")
        answer = shop.post(path, document, "order-42")
        assert (answer.status, answer.body["code"], answer.body["field"]) == (
            422,
            "IDEMPOTENCY_CONFLICT",
            "Idempotency-Key",
        )
        assert sold_once(), (path, document)


def test_one_of_many_orders_at_once_with_one_key_acts(proxied: Service, database: Database) -> None:
    shop = Shop(proxied, database, address="198.51.100.7")
    for number in range(10):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: shop.post_until_done(ORDER, f"order-{number}"), range(8)))  # noqa: B023
        assert {answer.status for answer in answers} == {201}
        assert len({json.dumps(answer.body) for answer in answers}) == 1
        assert sum(not is_replay(answer) for answer in answers) == 1
        assert Card.select().count() == 2 * (number + 1)


def test_a_worker_killed_between_commit_and_answer_sells_once(wire: Wire, database: Database, tmp_path: Path) -> None:
    with Service(with_keys(tmp_path), wire.url, KADUN_WORKERS="1") as service:
        shop = Shop(service, database)
        with ThreadPoolExecutor(1) as pool:
            lost = pool.submit(shop.post, CARDS, ORDER, "order-42")
            assert wire.held.wait(60)
            assert sold_once()  # and the worker does not know it yet
            (worker,) = children_of(service.process.pid)
            os.kill(worker, signal.SIGKILL)
            with pytest.raises((OSError, http.client.HTTPException)):
                lost.result()
        wait_for(lambda: set(children_of(service.process.pid)) - {worker})
        again = shop.post(CARDS, ORDER, "order-42")
    assert (again.status, is_replay(again)) == (201, True)
    assert {card["id"] for card in again.body["cards"]} == {row.id for row in Card.select()}
    assert sold_once()


def test_a_connection_that_breaks_at_the_commit_sells_once(wire: Wire, database: Database, tmp_path: Path) -> None:
    with Service(with_keys(tmp_path), wire.url, KADUN_WORKERS="1", KADUN_THREADS="1") as service:
        shop = Shop(service, database)
        shop.look_up("0" * 32)  # so that the connection is one that it had kept
        with ThreadPoolExecutor(1) as pool:
            order = pool.submit(shop.post, CARDS, ORDER, "order-42")
            assert wire.held.wait(60)
            wire.cut()
            answer = order.result()
    assert (answer.status, is_replay(answer)) == (201, True)
    assert sold_once()
