"""The limits of shops' tokens over HTTP: what a shop is told."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from app.clock import utc_now
from app.domain.ceilings import MAX_CHANGES_PER_DAY, Ceilings
from app.domain.operators import Scope
from app.domain.token_limits import TokenLimits, default_limits
from app.storage.database import Database
from app.storage.models import Card, IssueCount
from tests.support.service import Response, Service
from tests.support.shop import CARDS, Shop

SMALL = TokenLimits(Ceilings(5, timedelta(days=30)))
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


def test_an_order_that_changes_more_cards_than_are_left_of_the_day_is_refused(
    service: Service, database: Database
) -> None:
    shop = Shop(service, database)
    ids = shop.issue(3)
    IssueCount.update(changed=MAX_CHANGES_PER_DAY - 2).execute()
    for path, more in (("freeze", {}), ("extend", {"by": "1d"})):
        answer = shop.post(f"{CARDS}/{path}", {"ids": ids, **more}, **ENGLISH)
        assert problem(answer) == (403, "CEILING_EXCEEDED", "ids")
        assert answer.body["detail"].startswith("At most 10000 cards a day may be changed, and 2 are left today;")
    assert Card.select().where(Card.frozen_at.is_null()).count() == 3
    assert shop.post(f"{CARDS}/freeze", {"ids": ids[:2]}, "order-1").body["changed"] == ids[:2]
    assert shop.post(f"{CARDS}/freeze", {"ids": ids[:2]}, "order-1").headers["idempotency-replayed"] == "true"
    assert shop.post(f"{CARDS}/freeze", {"ids": ids[:2]}).body["changed"] == []
    assert IssueCount.get().changed == MAX_CHANGES_PER_DAY


def test_a_refused_order_may_be_sent_again_under_its_key(service: Service, database: Database) -> None:
    shop = Shop(service, database, limits=SMALL)
    order = {"validity": "1d", "count": 6}
    assert shop.post(CARDS, order, "order-42").status == 403
    shop.tokens.set_limits(shop.name, TokenLimits())
    first, again = shop.post(CARDS, order, "order-42"), shop.post(CARDS, order, "order-42")
    assert (first.status, again.status, again.body == first.body) == (201, 201, True)
    assert Card.select().count() == 6, "the repeated order is not counted"


def test_shops_orders_at_once_stay_within_the_day(proxied: Service, database: Database) -> None:
    shop = Shop(proxied, database, address="203.0.113.7", limits=SMALL)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _number: shop.post(CARDS, {"validity": "1d"}), range(16)))
    assert sorted(answer.status for answer in answers) == [201] * 5 + [403] * 11
    assert Card.select().count() == 5


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


def test_a_tokens_cards_stay_its_own_after_it_is_replaced(service: Service, database: Database) -> None:
    shop = Shop(service, database, limits=default_limits(utc_now()))
    (own,) = shop.issue()
    shop.tokens.revoke(shop.name)
    token = shop.tokens.add(shop.name, [Scope.CARDS_READ])
    shop.headers["Authorization"] = f"Bearer {token}"
    assert shop.look_up(own).status == 200


def test_an_expired_token_is_refused(service: Service, database: Database) -> None:
    shop = Shop(service, database)
    database.execute_sql("UPDATE api_token SET expires_at = '2026-01-31T23:00:00+00'")
    answer = shop.post(CARDS, {"validity": "1d"}, **ENGLISH)
    assert problem(answer) == (401, "UNAUTHORIZED", None)
    assert answer.body["detail"] == "The token expired on 2026-01-31."
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_a_token_is_refused_from_elsewhere(proxied: Service, database: Database) -> None:
    for address, status in [
        ("203.0.113.7", 201),
        ("203.0.114.7", 403),
        ("2001:db8::5:1", 201),
        ("2001:db8:0:1::1", 403),
    ]:
        limits = TokenLimits(networks=("203.0.113.0/24", "2001:db8::/64"))
        answer = Shop(proxied, database, address=address, limits=limits).post(CARDS, {"validity": "1d"}, **ENGLISH)
        assert answer.status == status
        if status == 403:
            assert problem(answer) == (403, "FORBIDDEN", None), (address, status)
            assert answer.body["detail"] == f"The token may not be used from {address}."
