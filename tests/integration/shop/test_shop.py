"""The shops' API: authorisation, the effect of each order, and the answers to invalid ones."""
# Owns shop-api.

import json
import re
from datetime import datetime
from typing import Any

import pytest

from app.domain.operators.operators import Scope
from app.runtime.clock import utc_now
from app.services.shop.shop_tokens import ShopTokens
from app.storage.database import Database
from app.storage.models import ApiToken, Card, Event, IdempotencyRecord, LoginFailure
from tests.support.console.console import Browser
from tests.support.openapi_contract import OPENAPI
from tests.support.services.service import ROOT, Response, Service, question
from tests.support.shop import CARDS, Shop
from tests.support.tables import for_each

DOCUMENT = ROOT / "docs/shop-api.md"
NOBODY = "0" * 32
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


def is_problem(answer: Response, status: int, code: str, field: str | None = None) -> None:
    assert (answer.status, answer.body.get("code"), answer.body.get("field")) == (status, code, field), answer
    assert answer.headers["content-type"] == "application/problem+json"


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
    is_problem(shop.post(CARDS, {"validity": "1d", "count": 1001}), 400, "INVALID_REQUEST", "count")


def test_a_card_is_described_without_its_machine(service: Service, shop: Shop) -> None:
    assert ApiToken.get().last_used_at is None
    (card_id,) = shop.issue(validity="1d", batch="B")
    assert ApiToken.get().last_used_at is not None
    typed = "-".join(card_id[start : start + 4] for start in range(0, 32, 4)).lower()
    fresh = shop.look_up(f" {typed} ").body
    assert datetime.fromisoformat(fresh.pop("created_at")).utcoffset() is not None
    assert fresh == {
        "id": card_id,
        "status": "unused",
        "validity_seconds": 86_400,
        "activated_at": None,
        "expires_at": None,
        "frozen": False,
        "batch": "B",
        "note": None,
        "bound": False,
        "last_seen_at": None,
    }
    claims = service.verify(question(card_id, hardware="a very own machine")).claims
    answer = shop.look_up(card_id)
    used = answer.body
    assert (used["status"], used["bound"]) == ("active", True)
    assert datetime.fromisoformat(used["activated_at"]).timestamp() == claims["card_activated_at"]
    assert datetime.fromisoformat(used["expires_at"]).timestamp() == claims["card_expires_at"]
    assert used["last_seen_at"] is not None
    assert answer.headers["cache-control"] == "no-store"
    for secret in ("a very own machine", "127.0.0.1"):
        assert secret not in json.dumps(answer.body)


def test_freezing_and_unfreezing_return_the_changed_cards(service: Service, shop: Shop) -> None:
    first, second = shop.issue(2)
    assert shop.post(f"{CARDS}/freeze", {"ids": [second]}).body == {"changed": [second], "revived_unbound": []}
    assert shop.post(f"{CARDS}/freeze", {"ids": [first, second, first]}).body["changed"] == [first]
    assert service.verify(question(first)).claims["code"] == "CARD_FROZEN"
    assert shop.look_up(first).body["frozen"] is True
    assert shop.post(f"{CARDS}/unfreeze", {"ids": [first]}).body == {"changed": [first], "revived_unbound": []}
    assert service.verify(question(first)).claims["code"] == "OK"
    shop.post(f"{CARDS}/unfreeze", {"ids": [second]})
    shop.post(f"{CARDS}/freeze", {"ids": [first]})
    service.verify(question(second))  # the same machine moves on
    assert shop.post(f"{CARDS}/unfreeze", {"ids": [first]}).body == {"changed": [first], "revived_unbound": [first]}
    frozen = Event.select().where(Event.kind == "frozen").order_by(Event.id)
    assert [event.card_id for event in frozen] == [second, first, first]
    assert {event.actor for event in frozen} == {f"shop:{shop.name}"}


def test_nothing_is_changed_if_one_card_is_permanent_or_unknown(shop: Shop) -> None:
    (limited,), (permanent,) = shop.issue(validity="1d"), shop.issue(validity="permanent")
    answer = shop.post(f"{CARDS}/extend", {"ids": [limited, permanent], "by": "1d"}, **{"Accept-Language": "en"})
    is_problem(answer, 409, "CONFLICT", "ids")
    assert answer.body["detail"] == f"{permanent} is a permanent card: there is nothing to extend."
    assert shop.look_up(limited).body["validity_seconds"] == 86_400
    answer = shop.post(f"{CARDS}/freeze", {"ids": [limited, NOBODY]})
    is_problem(answer, 404, "CARD_NOT_FOUND", "ids")
    assert NOBODY in answer.body["detail"]
    assert shop.look_up(limited).body["frozen"] is False


@for_each("held", Scope)
def test_a_token_allows_only_its_scopes(service: Service, database: Database, held: Scope) -> None:
    shop = Shop(service, database, [held])
    answers = {(path, needed): shop.post(path, document) for path, (needed, document) in ORDERS.items()}
    answers[f"{CARDS}?id=", Scope.CARDS_READ] = shop.look_up(NOBODY)
    for (path, needed), answer in answers.items():
        if needed is held:
            assert answer.status in (201, 404), path
            continue
        is_problem(answer, 403, "FORBIDDEN")
        assert needed in answer.body["detail"]
        assert answer.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{needed}"'
    assert Card.delete().execute() == (1 if held is Scope.CARDS_ISSUE else 0)


def test_a_request_without_a_valid_token_is_refused(
    service: Service, shop: Shop, olga: Browser, database: Database
) -> None:
    ShopTokens(database, "tester", utc_now).revoke(shop.name)
    session = str(olga.cookie("kadun_session"))
    for header, challenge in {
        None: "Bearer",
        "": "Bearer",
        "Bearer": "Bearer",
        "Basic a2Q6a2Q=": "Bearer",
        "Bearer two words": "Bearer",
        "Bearer kd_unknown": 'Bearer error="invalid_token"',
        "bearer kd_unknown": 'Bearer error="invalid_token"',
        f"Bearer {shop.token}": 'Bearer error="invalid_token"',
        f"Bearer {session}": 'Bearer error="invalid_token"',
    }.items():
        headers = {"Cookie": f"kadun_session={session}"} | ({} if header is None else {"Authorization": header})
        answers = [service.request("POST", path, b"{}", headers) for path in ORDERS]
        for answer in (*answers, service.request("GET", f"{CARDS}?id={NOBODY}", headers=headers)):
            is_problem(answer, 401, "UNAUTHORIZED")
            assert answer.headers["www-authenticate"] == challenge, header


def test_guessing_tokens_is_throttled_by_network_and_site_but_not_the_shop_at_the_same_address(
    proxied: Service, database: Database
) -> None:
    def guess(address: str) -> Response:
        headers = {"Authorization": "Bearer kd_guess", "X-Real-IP": address}
        return proxied.request("GET", f"{CARDS}?id={NOBODY}", headers=headers)

    shop = Shop(proxied, database, address="2001:db8:1:1::7")
    is_problem(guess("2001:db8:1:1::7"), 401, "UNAUTHORIZED")
    assert LoginFailure.update(failures=1_000, last_at=utc_now()).execute() == 2  # so many guesses
    for address in ("2001:db8:1:1::7", "2001:db8:1:2::1"):
        slowed = guess(address)
        is_problem(slowed, 429, "TOO_MANY_REQUESTS")
        assert int(slowed.headers["retry-after"]) >= 1
    assert shop.issue()
    assert guess("2001:db8:2::1").status == 401


def test_an_invalid_field_is_named_in_both_languages_and_nothing_is_done(shop: Shop) -> None:
    wrong: list[tuple[str, Any, str | None]] = [
        (CARDS, {}, "validity"),
        (CARDS, {"validity": "\u202e30d"}, "validity"),
        (CARDS, {"validity": "1d", "count": 0}, "count"),
        (CARDS, {"validity": "1d", "count": True}, "count"),
        (CARDS, {"validity": "1d", "batch": "b" * 201}, "batch"),
        (CARDS, {"validity": "1d", "note": "\0"}, "note"),
        (CARDS, {"validity": "1d", "price": 1}, "price"),
        (CARDS, ["1d"], None),
        (f"{CARDS}/freeze", {"ids": NOBODY}, "ids"),
        (f"{CARDS}/freeze", {"ids": [NOBODY] * 101}, "ids"),
        (f"{CARDS}/freeze", {"ids": [" "]}, "ids"),
        (f"{CARDS}/unfreeze", {"ids": [NOBODY], "by": "1d"}, "by"),
        (f"{CARDS}/extend", {"ids": [NOBODY], "by": "permanent"}, "by"),
    ]
    for path, document, field in wrong:
        answer = shop.post(path, document)
        assert answer.body.get("field") == field, (path, document)
        is_problem(answer, 400, "INVALID_REQUEST", field)
        english = shop.post(path, document, **{"Accept-Language": "en"}).body["detail"]
        assert english.isascii()
        assert not answer.body["detail"].isascii()
    is_problem(shop.post(CARDS, {"validity": "1d"}, **{"Content-Type": "text/plain"}), 415, "UNSUPPORTED_MEDIA_TYPE")
    is_problem(shop.post(CARDS, {"validity": "x" * 70_000}), 413, "BODY_TOO_LARGE")
    assert (Card.select().count(), IdempotencyRecord.select().count()) == (0, 0)


def test_an_order_without_a_valid_key_is_refused(service: Service, shop: Shop) -> None:
    for key in [None, "", " ", "k" * 65, "two words", "schlüssel"]:
        for path, (_, document) in ORDERS.items():
            body, headers = shop.order(document)
            del headers["Idempotency-Key"]
            headers |= {} if key is None else {"Idempotency-Key": key}
            answer = service.request("POST", path, body, headers)
            is_problem(answer, 400, "INVALID_REQUEST", "Idempotency-Key")
        assert Card.select().count() == 0, key


def test_a_query_must_name_one_existing_card(service: Service, shop: Shop) -> None:
    for query, field, status in [
        ("", "id", 400),
        (f"?id={NOBODY}&id={NOBODY}", "id", 400),
        ("?id=" + "0" * 65, "id", 400),
        (f"?id={NOBODY}&card=1", "card", 400),
        *((f"?id={text}", "id", 404) for text in (NOBODY, "no+card%27s+ID", "%00", "%ff%fe", "a%0d%0ab")),
    ]:
        answer = service.request("GET", f"{CARDS}{query}", headers=shop.headers)
        is_problem(answer, status, "INVALID_REQUEST" if status == 400 else "CARD_NOT_FOUND", field)


def test_the_example_in_the_document_sells_one_card(
    service: Service, shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert program.count("https://card.example.com") == program.count("kd_…") == 1
    program = program.replace("https://card.example.com", f"http://127.0.0.1:{service.port}").replace(
        "kd_…", shop.token
    )
    for _ in range(2):  # as after a crash of the shop
        exec(program, {})  # noqa: S102  # what shops copy
    assert capsys.readouterr().out.split() == [Card.get().id] * 2
