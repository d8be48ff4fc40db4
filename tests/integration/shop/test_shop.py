"""The shops' API: authorisation, the effect of each order, a token's limits, and the answers to invalid orders."""
# Owns shop-api.

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.domain.operators.operators import Scope
from app.domain.operators.token_limits import TokenLimits, default_limits
from app.runtime.clock import utc_now
from app.services.shop.shop_tokens import ShopTokens
from app.storage.database import Database
from app.storage.models import ApiToken, Card, Event, IdempotencyRecord, LoginFailure
from tests.support.console.console import Browser
from tests.support.openapi_contract import OPENAPI
from tests.support.services.service import ROOT, Response, Service, question
from tests.support.shop import CARDS, Shop
from tests.support.tables import for_each

NOBODY = "0" * 32
UNKNOWN = (404, "CARD_NOT_FOUND", "id")
ORDERS: dict[str, tuple[Scope, dict[str, Any]]] = {
    CARDS: (Scope.CARDS_ISSUE, {"validity": "30d"}),
    f"{CARDS}/freeze": (Scope.CARDS_FREEZE, {"ids": [NOBODY]}),
    f"{CARDS}/unfreeze": (Scope.CARDS_FREEZE, {"ids": [NOBODY]}),
    f"{CARDS}/extend": (Scope.CARDS_EXTEND, {"ids": [NOBODY], "by": "1d"}),
}


def test_every_route_of_the_shops_is_tested() -> None:
    shops = {path: set(methods) for path, methods in OPENAPI["paths"].items() if path.startswith("/v1/shop/")}
    assert shops == {path: {"post"} for path in ORDERS} | {CARDS: {"get", "post"}}


@pytest.fixture
def shop(service: Service, database: Database) -> Shop:
    return Shop(service, database)


def refusal(answer: Response) -> tuple[Any, ...]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status, answer.body["code"], answer.body.get("field")


def test_cards_are_issued_as_ordered_at_most_a_thousand_and_journalled_under_the_shops_name(shop: Shop) -> None:
    answer = shop.post(CARDS, {"validity": "month", "count": 3, "batch": "双十一", "note": "order 42"})
    assert (answer.status, answer.headers["cache-control"]) == (201, "no-store")
    cards = answer.body["cards"]
    assert len({card["id"] for card in cards}) == 3
    told = {"validity_seconds": 30 * 86_400, "batch": "双十一", "note": "order 42"}
    assert [card for card in cards if card != {"id": card["id"], **told}] == []
    assert {row.id for row in Card.select()} == {card["id"] for card in cards}
    (event,) = Event.select().where(Event.kind == "issued")
    assert event.actor == f"shop:{shop.name}"
    (permanent,) = shop.post(CARDS, {"validity": "permanent", "count": None, "batch": None}).body["cards"]
    assert permanent | {"id": ""} == {"id": "", "validity_seconds": None, "batch": None, "note": None}
    assert len(shop.post(CARDS, {"validity": "1d", "count": 1.0}).body["cards"]) == 1
    assert len(shop.issue(1000)) == 1000
    assert refusal(shop.post(CARDS, {"validity": "1d", "count": 1001})) == (400, "INVALID_REQUEST", "count")


def test_a_card_is_described_without_its_machine(service: Service, shop: Shop) -> None:
    assert ApiToken.get().last_used_at is None
    (card_id,) = shop.issue(validity="1d", batch="B")
    assert ApiToken.get().last_used_at is not None
    typed = "-".join(card_id[start : start + 4] for start in range(0, 32, 4)).lower()
    fresh = shop.look_up(f" {typed} ").body
    assert datetime.fromisoformat(fresh.pop("created_at")).utcoffset() is not None
    times = {"activated_at": None, "expires_at": None, "last_seen_at": None}
    others = {"validity_seconds": 86_400, "frozen": False, "batch": "B", "note": None, "bound": False}
    assert fresh == {"id": card_id, "status": "unused", **times, **others}
    claims = service.verify(question(card_id, hardware="a very own machine")).claims
    answer = shop.look_up(card_id)
    used = answer.body
    assert (used["status"], used["bound"], answer.headers["cache-control"]) == ("active", True, "no-store")
    assert datetime.fromisoformat(used["activated_at"]).timestamp() == claims["card_activated_at"]
    assert datetime.fromisoformat(used["expires_at"]).timestamp() == claims["card_expires_at"]
    assert used["last_seen_at"] is not None
    for secret in ("a very own machine", "127.0.0.1"):
        assert secret not in json.dumps(answer.body)


def test_freezing_and_unfreezing_return_the_changed_cards(service: Service, shop: Shop) -> None:
    first, second = shop.issue(2)
    service.verify(question(first))
    assert shop.post(f"{CARDS}/freeze", {"ids": [first]}).body == {"changed": [first], "revived_unbound": []}
    assert service.verify(question(first)).claims["code"] == "CARD_FROZEN"
    assert shop.look_up(first).body["frozen"] is True
    service.verify(question(second))  # the same machine moves on
    assert shop.post(f"{CARDS}/unfreeze", {"ids": [first]}).body == {"changed": [first], "revived_unbound": [first]}
    assert Event.get(Event.kind == "frozen").actor == f"shop:{shop.name}"


def test_nothing_is_changed_if_one_card_is_permanent(shop: Shop) -> None:
    (limited,), (permanent,) = shop.issue(validity="1d"), shop.issue(validity="permanent")
    answer = shop.post(f"{CARDS}/extend", {"ids": [limited, permanent], "by": "1d"}, **{"Accept-Language": "en"})
    assert refusal(answer) == (409, "CONFLICT", "ids")
    assert answer.body["detail"] == f"{permanent} is a permanent card: there is nothing to extend."
    assert shop.look_up(limited).body["validity_seconds"] == 86_400


@for_each("held", Scope)
def test_a_token_allows_only_its_scopes(service: Service, database: Database, held: Scope) -> None:
    shop = Shop(service, database, [held])
    answers = {(path, needed): shop.post(path, document) for path, (needed, document) in ORDERS.items()}
    answers[f"{CARDS}?id=", Scope.CARDS_READ] = shop.look_up(NOBODY)
    for (path, needed), answer in answers.items():
        if needed is held:
            assert answer.status in (201, 404), path
            continue
        assert refusal(answer) == (403, "FORBIDDEN", None)
        assert needed in answer.body["detail"]
        assert answer.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{needed}"'
    assert Card.delete().execute() == (1 if held is Scope.CARDS_ISSUE else 0)


def test_without_a_valid_token_all_is_refused(service: Service, shop: Shop, olga: Browser, database: Database) -> None:
    ShopTokens(database, "tester", utc_now).revoke(shop.name)
    session = str(olga.cookie("kadun_session"))
    missing = dict.fromkeys((None, "", "Bearer", "Basic a2Q6a2Q=", "Bearer two words"), "Bearer")
    unknown = ("Bearer kd_unknown", "bearer kd_unknown", f"Bearer {shop.token}", f"Bearer {session}")
    for header, challenge in (missing | dict.fromkeys(unknown, 'Bearer error="invalid_token"')).items():
        headers = {"Cookie": f"kadun_session={session}"} | ({} if header is None else {"Authorization": header})
        answers = [service.request("POST", path, b"{}", headers) for path in ORDERS]
        for answer in (*answers, service.request("GET", f"{CARDS}?id={NOBODY}", headers=headers)):
            assert refusal(answer) == (401, "UNAUTHORIZED", None), header
            assert answer.headers["www-authenticate"] == challenge, header


def test_guessing_tokens_is_throttled_but_not_the_shop_at_the_address(proxied: Service, database: Database) -> None:
    def guess(address: str) -> Response:
        headers = {"Authorization": "Bearer kd_guess", "X-Real-IP": address}
        return proxied.request("GET", f"{CARDS}?id={NOBODY}", headers=headers)

    shop = Shop(proxied, database, address="2001:db8:1:1::7")
    assert refusal(guess("2001:db8:1:1::7")) == (401, "UNAUTHORIZED", None)
    assert LoginFailure.update(failures=1_000, last_at=utc_now()).execute() == 2  # so many guesses
    for address in ("2001:db8:1:1::7", "2001:db8:1:2::1"):
        slowed = guess(address)
        assert refusal(slowed) == (429, "TOO_MANY_REQUESTS", None)
        assert int(slowed.headers["retry-after"]) >= 1
    assert shop.issue()
    assert guess("2001:db8:2::1").status == 401


def test_an_invalid_field_is_named_in_both_languages_and_nothing_is_done(shop: Shop) -> None:
    wrong: list[tuple[str, Any, str | None]] = [
        (CARDS, {}, "validity"),
        (CARDS, {"validity": "\u202e30d"}, "validity"),
        (CARDS, {"validity": "1d", "count": True}, "count"),
        (CARDS, {"validity": "1d", "batch": "b" * 201}, "batch"),
        (CARDS, {"validity": "1d", "note": "\0"}, "note"),
        (CARDS, {"validity": "1d", "price": 1}, "price"),
        (CARDS, ["1d"], None),
        (f"{CARDS}/freeze", {"ids": NOBODY}, "ids"),
        (f"{CARDS}/freeze", {"ids": [NOBODY] * 101}, "ids"),
        (f"{CARDS}/unfreeze", {"ids": [NOBODY], "by": "1d"}, "by"),
        (f"{CARDS}/extend", {"ids": [NOBODY], "by": "permanent"}, "by"),
    ]
    for path, document, field in wrong:
        answer = shop.post(path, document)
        assert refusal(answer) == (400, "INVALID_REQUEST", field), (path, document)
        english = shop.post(path, document, **{"Accept-Language": "en"}).body["detail"]
        assert (english.isascii(), answer.body["detail"].isascii()) == (True, False)
    plain = shop.post(CARDS, {"validity": "1d"}, **{"Content-Type": "text/plain"})
    assert refusal(plain) == (415, "UNSUPPORTED_MEDIA_TYPE", None)
    assert refusal(shop.post(CARDS, {"validity": "x" * 70_000})) == (413, "BODY_TOO_LARGE", None)
    assert (Card.select().count(), IdempotencyRecord.select().count()) == (0, 0)


def test_an_order_without_a_valid_key_is_refused(service: Service, shop: Shop) -> None:
    for key in [None, "", " ", "k" * 65, "two words", "schlüssel"]:
        for path, (_, document) in ORDERS.items():
            body, headers = shop.order(document)
            headers = {**headers, "Idempotency-Key": key or ""}
            if key is None:
                del headers["Idempotency-Key"]
            answer = service.request("POST", path, body, headers)
            assert refusal(answer) == (400, "INVALID_REQUEST", "Idempotency-Key"), (key, path)
    assert Card.select().count() == 0


def test_a_query_must_name_one_existing_card(service: Service, shop: Shop) -> None:
    for query, said in [
        ("", (400, "INVALID_REQUEST", "id")),
        (f"?id={NOBODY}&id={NOBODY}", (400, "INVALID_REQUEST", "id")),
        ("?id=" + "0" * 65, (400, "INVALID_REQUEST", "id")),
        (f"?id={NOBODY}&card=1", (400, "INVALID_REQUEST", "card")),
        *((f"?id={text}", UNKNOWN) for text in (NOBODY, "no+card%27s+ID", "%00", "%ff%fe", "a%0d%0ab")),
    ]:
        assert refusal(service.request("GET", f"{CARDS}{query}", headers=shop.headers)) == said, query


def test_the_example_sells_one_card(service: Service, shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    program = (ROOT / "examples/shop/order.py").read_text("utf-8")
    assert program.count("https://card.example.com") == program.count("kd_…") == 1
    program = program.replace("https://card.example.com", f"http://127.0.0.1:{service.port}")
    program = program.replace("kd_…", shop.token)
    for _ in range(2):  # as after a crash of the shop
        exec(program, {})  # noqa: S102  # what shops copy
    assert capsys.readouterr().out.split() == [Card.get().id] * 2


ENGLISH = {"Accept-Language": "en"}


def test_an_order_beyond_a_ceiling_is_refused_with_field_and_reason(service: Service, database: Database) -> None:
    shop = Shop(service, database, limits=TokenLimits(5, timedelta(days=30)))
    (card_id,) = shop.issue()
    service.cardctl("file", "add", "-", "--name", "a", "--batch", "pro", text="x")
    for document, field, reason in (
        ({"validity": "1d", "count": 5}, "count", "The ceiling is 5 cards a day, and 4 are left today;"),
        ({"validity": "31d"}, "validity", "The longest validity allowed is 30d;"),
        ({"validity": "1d", "batch": "pro"}, "batch", "A file is for the batch “pro”, so only owners issue its cards:"),
    ):
        answer = shop.post(CARDS, document, **ENGLISH)
        assert refusal(answer) == (403, "CEILING_EXCEEDED", field)
        assert answer.body["detail"].startswith(reason)
    answer = shop.post(f"{CARDS}/extend", {"ids": [card_id], "by": "1d"}, **ENGLISH)
    assert refusal(answer) == (403, "CEILING_EXCEEDED", "by")
    assert answer.body["detail"].startswith(f"Card {card_id} would last longer than the ceiling of 30d from now;")
    assert Card.select().count() == 1


def test_a_token_reaches_only_the_cards_that_it_issued(service: Service, database: Database) -> None:
    first, other = (Shop(service, database, limits=default_limits(utc_now())) for _ in range(2))
    (own,), (foreign,), (by_hand,) = first.issue(), other.issue(), service.issue()
    assert first.look_up(own).status == 200
    for card_id in (foreign, by_hand):
        assert refusal(first.look_up(card_id)) == UNKNOWN
        for path, more in (("freeze", {}), ("unfreeze", {}), ("extend", {"by": "1d"})):
            answer = first.post(f"{CARDS}/{path}", {"ids": [own, card_id], **more})
            assert (refusal(answer), card_id in answer.body["detail"]) == ((404, "CARD_NOT_FOUND", "ids"), True)
    assert Card.select().where(Card.frozen_at.is_null(is_null=False)).count() == 0
    assert first.post(f"{CARDS}/extend", {"ids": [own], "by": "1d"}).body["changed"] == [own]
    first.tokens.revoke(first.name)
    token = first.tokens.add(first.name, [Scope.CARDS_READ])
    first.headers["Authorization"] = f"Bearer {token}"
    assert first.look_up(own).status == 200, "after the token is replaced, too"


def test_an_expired_token_and_one_from_elsewhere_are_refused(proxied: Service, database: Database) -> None:
    limits = TokenLimits(networks=["203.0.113.0/24", "2001:db8::/64"])
    for address, status in [("203.0.113.7", 201), ("2001:db8::5:1", 201), ("2001:db8:0:1::1", 403)]:
        shop = Shop(proxied, database, address=address, limits=limits)
        answer = shop.post(CARDS, {"validity": "1d"}, **ENGLISH)
        assert answer.status == status, address
    assert refusal(answer) == (403, "FORBIDDEN", None)
    assert answer.body["detail"] == f"The token may not be used from {address}."
    database.execute_sql("UPDATE api_token SET expires_at = '2026-01-31T23:00:00+00'")
    answer = shop.post(CARDS, {"validity": "1d"}, **ENGLISH)
    assert refusal(answer) == (401, "UNAUTHORIZED", None)
    assert answer.body["detail"] == "The token expired on 2026-01-31."
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
