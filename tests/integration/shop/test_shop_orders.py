"""Shops' orders: an order is carried out once, within the limits of the token."""
# Owns shop-once.

import http.client
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.domain.operators.operators import Scope
from app.domain.operators.token_limits import TokenLimits, default_limits
from app.runtime.clock import utc_now
from app.storage.database import Database
from app.storage.models import Card, Event
from tests.integration.conftest import with_keys
from tests.support.concurrency import at_once
from tests.support.services.processes import children_of
from tests.support.services.service import Response, Service, wait_for
from tests.support.services.tcp_proxy import Wire
from tests.support.shop import CARDS, Shop

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
    for what in ("freeze", "unfreeze"):
        assert shop.post(f"{CARDS}/{what}", {"ids": [card_id]}, what).body["changed"] == [card_id]
    assert is_replay(shop.post(f"{CARDS}/freeze", {"ids": [card_id]}, "freeze"))
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
    shop.post(CARDS, ORDER, "order-42")
    for path, document in [
        (CARDS, {**ORDER, "validity": "month"}),  # the same time, otherwise written
        (CARDS, {"validity": "30d", "count": 2}),
        (f"{CARDS}/freeze", {"ids": ["0" * 32]}),
    ]:
        answer = shop.post(path, document, "order-42")
        assert problem(answer) == (422, "IDEMPOTENCY_CONFLICT", "Idempotency-Key")
        assert sold_once(), (path, document)


def test_one_of_many_orders_at_once_with_one_key_acts(proxied: Service, database: Database) -> None:
    shop = Shop(proxied, database, address="198.51.100.7")
    for number in range(10):
        answers = at_once([partial(shop.post_until_done, ORDER, f"order-{number}")] * 8)
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


SMALL = TokenLimits(5, timedelta(days=30))
ENGLISH = {"Accept-Language": "en"}


def problem(answer: Response) -> tuple[Any, ...]:
    return answer.status, answer.body["code"], answer.body.get("field")


def test_an_order_beyond_a_ceiling_is_refused_with_the_field_and_the_reason(
    service: Service, database: Database
) -> None:
    shop = Shop(service, database, limits=SMALL)
    (card_id,) = shop.issue()
    service.cardctl("file", "add", "-", "--name", "a", "--batch", "pro", text="x")
    for document, field, reason in (
        ({"validity": "1d", "count": 5}, "count", "The ceiling is 5 cards a day, and 4 are left today;"),
        ({"validity": "31d"}, "validity", "The longest validity allowed is 30d;"),
        ({"validity": "permanent"}, "validity", "The longest validity allowed is 30d;"),
        ({"validity": "1d", "batch": "pro"}, "batch", "A file is for the batch “pro”, so only owners issue its cards:"),
    ):
        answer = shop.post(CARDS, document, **ENGLISH)
        assert problem(answer) == (403, "CEILING_EXCEEDED", field)
        assert answer.body["detail"].startswith(reason)
    answer = shop.post(f"{CARDS}/extend", {"ids": [card_id], "by": "1d"}, **ENGLISH)
    assert problem(answer) == (403, "CEILING_EXCEEDED", "by")
    assert answer.body["detail"].startswith(f"Card {card_id} would last longer than the ceiling of 30d from now;")
    assert Card.select().count() == 1


def test_a_token_reaches_only_the_cards_that_it_issued(service: Service, database: Database) -> None:
    first, other = (Shop(service, database, limits=default_limits(utc_now())) for _ in range(2))
    (own,), (foreign,), (by_hand,) = first.issue(), other.issue(), service.issue()
    assert first.look_up(own).status == 200
    for card_id in (foreign, by_hand):
        assert problem(first.look_up(card_id)) == (404, "CARD_NOT_FOUND", "id")
        for path, more in (("freeze", {}), ("unfreeze", {}), ("extend", {"by": "1d"})):
            answer = first.post(f"{CARDS}/{path}", {"ids": [own, card_id], **more})
            assert problem(answer) == (404, "CARD_NOT_FOUND", "ids")
    assert Card.select().where(Card.frozen_at.is_null(is_null=False)).count() == 0
    assert first.post(f"{CARDS}/extend", {"ids": [own], "by": "1d"}).body["changed"] == [own]
    first.tokens.revoke(first.name)
    token = first.tokens.add(first.name, [Scope.CARDS_READ])
    first.headers["Authorization"] = f"Bearer {token}"
    assert first.look_up(own).status == 200, "after the token is replaced, too"


def test_an_expired_token_is_refused(service: Service, database: Database) -> None:
    shop = Shop(service, database)
    database.execute_sql("UPDATE api_token SET expires_at = '2026-01-31T23:00:00+00'")
    answer = shop.post(CARDS, {"validity": "1d"}, **ENGLISH)
    assert problem(answer) == (401, "UNAUTHORIZED", None)
    assert answer.body["detail"] == "The token expired on 2026-01-31."
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_a_token_is_refused_from_elsewhere(proxied: Service, database: Database) -> None:
    limits = TokenLimits(networks=["203.0.113.0/24", "2001:db8::/64"])
    for address, status in [("203.0.113.7", 201), ("2001:db8::5:1", 201), ("2001:db8:0:1::1", 403)]:
        answer = Shop(proxied, database, address=address, limits=limits).post(CARDS, {"validity": "1d"}, **ENGLISH)
        assert answer.status == status, address
    assert problem(answer) == (403, "FORBIDDEN", None)
    assert answer.body["detail"] == f"The token may not be used from {address}."
