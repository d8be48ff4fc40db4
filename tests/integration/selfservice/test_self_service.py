"""Self-service: what it changes, journals and leaves alone, and over HTTP: off by default, strict, right at once."""
# Owns self-http.

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.domain.cards.card_actions import Action
from app.domain.cards.cards import card_id_of
from app.domain.codes import Code, EventKind
from app.domain.licence.terms import RenewTerm, Terms
from app.domain.programs import MAIN
from app.domain.self_service import RenewNotAllowedError, UnbindNotAllowedError
from app.runtime.clock import utc_now
from app.services.cards.card_actions import CardActions, CardNotFoundError
from app.services.licence.blocks import Blocks
from app.services.licence.guesses import TooFastError
from app.services.licence.licence import Verification
from app.services.licence.vendor_rules import CurrentRules, ProgramRules, VendorRules
from app.services.self_service import ChangedMeanwhileError, Customer, SelfService
from app.storage import bindings, journal
from app.storage.database import Database
from app.storage.journal import MAX_REFUSALS_PER_MINUTE
from app.storage.models import Card, Client, Event
from tests.conftest import START, Clock
from tests.support.concurrency import at_once
from tests.support.downloads import CONTENT, DOWNLOAD, NAME, fetch, is_problem, put
from tests.support.licence.bound_cards import ask
from tests.support.licence.in_force import wait_in_force
from tests.support.query_plans import rows_looked_at, statements
from tests.support.services.raw_http import hold_up
from tests.support.services.service import Response, Service, question, wait_for_lock
from tests.support.shop import JSON, Customers

DAY, ROUNDS = timedelta(days=1), 20
ROUTES = ("status", "unbind", "renew")
NO_CARD, SECOND_NOT_FOUND = "0" * 32, "second_card_not_found"
TERMS = Terms(self_service=True, self_unbind_per_30_days=2, self_unbind_cost=DAY, self_renew=RenewTerm.ANY)
CUSTOMER = Customer("198.51.100.1", CurrentRules({MAIN: ProgramRules(TERMS, 3)}))


@pytest.fixture
def self_service(database: Database, clock: Clock) -> SelfService:
    return SelfService(database, VendorRules(database), ZoneInfo("Asia/Shanghai"), clock)


@pytest.fixture
def bound_id(verification: Verification, card_id: str) -> str:
    """A card that the machine h1 has just activated."""
    assert ask(verification, card_id).code is Code.OK
    return card_id


def with_terms(**terms: Any) -> Customer:
    return Customer(CUSTOMER.address, CurrentRules({MAIN: ProgramRules(Terms(self_service=True, **terms))}))


def everything() -> list[Any]:
    """All rows that a customer could change."""
    return [list(model.select().order_by(model.id).dicts()) for model in (Card, Client, Event)]


def test_who_tries_ids_of_guessed_keys_finds_no_imported_card(
    self_service: SelfService, bound_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = card_id_of("OLD-KEY-1")
    Card.insert(id=imported, imported_key="OLD-KEY-1", validity=DAY, created_at=START).execute()
    assert self_service.status(CUSTOMER, imported).card.id == imported
    monkeypatch.setattr(journal, "MAX_REFUSALS_PER_MINUTE", 1)
    with pytest.raises(CardNotFoundError):
        self_service.status(CUSTOMER, card_id_of("guess"))
    for ask_for in (self_service.status, self_service.unbind):
        with pytest.raises(CardNotFoundError):
            ask_for(CUSTOMER, imported)
    with pytest.raises(RenewNotAllowedError):
        self_service.renew(CUSTOMER, bound_id, imported)
    assert Card.get_by_id(imported).renewed_card_id is None


def test_an_unbinding_costs_and_frees(self_service: SelfService, verification: Verification, bound_id: str) -> None:
    own = self_service.unbind(CUSTOMER, bound_id)
    until = START.replace(microsecond=0) + 29 * DAY
    assert (own.is_bound, own.card.expires_at, own.allowed.unbinds_left) == (False, until, 1)
    assert Card.get_by_id(bound_id).expires_at == until
    entry = Event.get(Event.kind == EventKind.SELF_UNBOUND)
    assert (entry.card_id, entry.actor, entry.ip) == (bound_id, "customer", "198.51.100.1")
    assert entry.details == {"cost": "1d", "expires_at": until.isoformat(), "terms": 3}
    before = everything()
    assert not self_service.unbind(with_terms(), bound_id).is_bound
    assert everything() == before, "of a card that is not bound"
    assert ask(verification, bound_id, "h2", "203.0.113.9").code is Code.OK


def test_only_the_customers_own_unbindings_count_and_for_30_days(
    self_service: SelfService, verification: Verification, card_actions: CardActions, clock: Clock, bound_id: str
) -> None:
    card_actions.apply(Action.UNBIND, [bound_id])
    for _ in range(2):
        ask(verification, bound_id)
        self_service.unbind(CUSTOMER, bound_id)
        clock.advance(DAY)
    ask(verification, bound_id)
    before = everything()
    with pytest.raises(UnbindNotAllowedError) as refused:
        self_service.unbind(CUSTOMER, bound_id)
    assert refused.value.next_unbind_at == START.replace(microsecond=0) + timedelta(days=30, seconds=1)
    assert everything() == before
    card_actions.apply(Action.EXTEND, [bound_id], 30 * DAY)
    clock.now = refused.value.next_unbind_at
    assert self_service.unbind(CUSTOMER, bound_id).allowed.unbinds_left == 0


def test_what_was_confirmed_must_hold(self_service: SelfService, card_actions: CardActions, bound_id: str) -> None:
    mark = self_service.status(CUSTOMER, bound_id).mark
    card_actions.apply(Action.EXTEND, [bound_id], DAY)
    before = everything()
    with pytest.raises(ChangedMeanwhileError):
        self_service.unbind(CUSTOMER, bound_id, mark)
    assert everything() == before
    mark = self_service.status(CUSTOMER, bound_id).mark
    with pytest.raises(ChangedMeanwhileError):
        self_service.unbind(with_terms(self_unbind_per_30_days=2, self_unbind_cost=2 * DAY), bound_id, mark)
    assert not self_service.unbind(CUSTOMER, bound_id, mark).is_bound
    with pytest.raises(ChangedMeanwhileError):  # the same form sent again
        self_service.unbind(CUSTOMER, bound_id, mark)


def test_time_is_read_under_a_lock(self_service: SelfService, database: Database, clock: Clock, bound_id: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        with database.atomic():
            bindings.lock_cards([bound_id])
            unbinding = pool.submit(database.with_connection, lambda: self_service.unbind(CUSTOMER, bound_id))
            wait_for_lock(database)
            clock.advance(timedelta(hours=1))
        assert unbinding.result(60).at == clock.now
    assert Event.get(Event.kind == EventKind.SELF_UNBOUND).at == clock.now


def test_a_renewal_adds_the_second_cards_validity_and_spends_it(
    self_service: SelfService, verification: Verification, bound_id: str, other_id: str
) -> None:
    planned = self_service.renewal(CUSTOMER, bound_id, other_id)
    own = self_service.renew(CUSTOMER, bound_id, other_id)
    until = START.replace(microsecond=0) + 60 * DAY
    assert own.card == planned.after
    assert (own.is_bound, own.card.expires_at, Card.get_by_id(bound_id).expires_at) == (True, until, until)
    assert Card.get_by_id(other_id).renewed_card_id == bound_id
    own, spent = Event.select().where(Event.kind == EventKind.RENEWED).order_by(Event.id)
    assert (own.card_id, own.actor) == (bound_id, "customer")
    assert own.details == {"with": other_id, "by": "30d", "expires_at": until.isoformat(), "terms": 3}
    assert (spent.card_id, spent.details) == (other_id, {"renewed": bound_id, "by": "30d", "terms": 3})
    assert self_service.status(CUSTOMER, other_id).status == "spent"
    assert ask(verification, other_id, "h2", "203.0.113.9").code is Code.CARD_SPENT
    assert ask(verification, bound_id).code is Code.OK


def test_a_refused_renewal_leaves_both_cards_as_they_were_and_tells_nothing_of_the_second(
    self_service: SelfService, verification: Verification, bound_id: str, other_id: str
) -> None:
    ask(verification, other_id, "h9", "203.0.113.9")
    before = everything()
    for second, customer, reason in (
        (other_id, CUSTOMER, "second_card_not_unused"),
        (NO_CARD, with_terms(), "not_allowed"),
    ):
        for refuse in (self_service.renewal, self_service.renew):
            with pytest.raises(RenewNotAllowedError) as refused:
                refuse(customer, bound_id, second)
            assert refused.value.reason == reason
    assert everything() == before


def test_unknown_cards_are_journalled_within_bounds(self_service: SelfService, clock: Clock, bound_id: str) -> None:
    status, renew = partial(self_service.status, CUSTOMER), partial(self_service.renew, CUSTOMER, bound_id)
    for refused, call in (
        (CardNotFoundError, partial(status, "an old key")),
        (CardNotFoundError, partial(self_service.unbind, CUSTOMER, NO_CARD)),
        (CardNotFoundError, partial(self_service.renew, CUSTOMER, NO_CARD, bound_id)),
        (RenewNotAllowedError, partial(renew, NO_CARD)),
        *[(CardNotFoundError, partial(status, NO_CARD))] * 30,
    ):
        with pytest.raises(refused):
            call()
    refusals = Event.select().where(Event.code == Code.CARD_NOT_FOUND).order_by(Event.id)
    assert [event.card_id for event in refusals] == ["an old key", *[NO_CARD] * (MAX_REFUSALS_PER_MINUTE - 1)]
    told = {(event.actor, event.ip, event.details["terms"]) for event in refusals}
    assert told == {("customer", CUSTOMER.address, 3)}
    for guess in (status, renew):
        with pytest.raises(TooFastError) as too_fast:
            guess("an old key")
        assert too_fast.value.retry_after == 60
    clock.advance(timedelta(minutes=1))
    with pytest.raises(CardNotFoundError):
        status(NO_CARD)
    assert refusals.count() == MAX_REFUSALS_PER_MINUTE + 1


def test_an_index_counts_unbindings(self_service: SelfService, database: Database, clock: Clock, card_id: str) -> None:
    rows = (
        {"at": clock.now - number * DAY, "kind": kind, "card_id": own}
        for number in range(1, 100)
        for kind in (EventKind.SELF_UNBOUND, EventKind.BOUND)
        for own in (card_id, *(f"{other:032}" for other in range(20)))
    )
    Event.insert_many(list(rows)).execute()
    database.execute_sql("ANALYZE event")
    with statements(database) as ran:
        assert self_service.status(CUSTOMER, card_id).allowed.unbinds_left == 0
    (counted,) = [statement for statement in ran if '"event"' in statement[0]]
    assert rows_looked_at(database, counted) <= TERMS.self_unbind_per_30_days


@pytest.fixture
def customers(proxied: Service, database: Database) -> Customers:
    return Customers(proxied, database)


def in_use(service: Service, card_id: str, machine: str, address: str = "192.0.2.1") -> Card:
    assert service.verify(question(card_id, machine), address=address).status == 200
    return Card.get_by_id(card_id)


def test_without_the_term_every_route_is_404(proxied: Service, database: Database) -> None:
    customers = Customers(proxied, database, self_renew="any", self_unbind_per_30_days="9")
    (card_id,) = proxied.issue()
    for route in ROUTES:
        answer = customers.ask(route, card_id=card_id, with_card_id=card_id)
        assert (answer.status, answer.body["code"]) == (404, "NOT_FOUND")
        assert customers.send(route, b"{").status == 404, "before the body is read"
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        for path in ("/card", *(f"/v1/self/{route}" for route in ROUTES)):
            assert proxied.request(method, path, None, {"X-Real-IP": "198.51.100.1"}).status == 404, (method, path)
    assert not Event.select().where(Event.kind == "rejected").exists()


def test_a_customer_looks_up_unbinds_and_renews_and_never_sees_what_a_card_is_bound_to(customers: Customers) -> None:
    own, new = customers.service.issue(2)
    in_use(customers.service, own, "m1")
    before = customers.ask("status", card_id=own)
    assert before.headers["cache-control"] == "no-store"
    always = {"expires_at": before.body["expires_at"], "unbinds_left": 2, "next_unbind_at": None}
    assert before.body == {"status": "active", "bound": True, **always}
    unbound = customers.ask("unbind", card_id=f" {own.lower()} ").body
    assert (unbound["bound"], unbound["unbinds_left"], unbound["next_unbind_at"]) == (False, 1, None)
    renewed = customers.ask("renew", card_id=own, with_card_id=new).body
    until, cut, longer = (datetime.fromisoformat(each["expires_at"]) for each in (before.body, unbound, renewed))
    assert (until.utcoffset(), cut, longer) == (timedelta(hours=8), until - DAY, until + 29 * DAY)
    assert customers.ask("status", card_id=new).body["status"] == "spent"
    in_use(customers.service, own, "another", "192.0.2.2")


def test_refusals_say_when_or_why(customers: Customers) -> None:
    customers.allow(self_unbind_per_30_days="1")
    (own,) = customers.service.issue()
    for machine in ("m1", "m2"):
        in_use(customers.service, own, machine)
        refused = customers.ask("unbind", card_id=own)
    assert (refused.status, refused.body["code"]) == (403, "UNBIND_NOT_ALLOWED")
    assert datetime.fromisoformat(refused.body["next_unbind_at"]).utcoffset() == timedelta(hours=8)
    assert customers.ask("status", card_id=own).body["next_unbind_at"] == refused.body["next_unbind_at"]
    for route, fields, said in (
        ("renew", {"card_id": own, "with_card_id": own}, (403, "RENEW_NOT_ALLOWED", None, "same_card")),
        ("status", {"card_id": NO_CARD}, (404, "CARD_NOT_FOUND", "card_id", None)),
        ("renew", {"card_id": own, "with_card_id": NO_CARD}, (404, "CARD_NOT_FOUND", "with_card_id", SECOND_NOT_FOUND)),
        ("status", {"card_id": "abc", "hardware": "m1"}, (400, "INVALID_REQUEST", "hardware", None)),
    ):
        answer = customers.ask(route, **fields)
        assert (answer.status, *(answer.body.get(name) for name in ("code", "field", "reason"))) == said


def test_a_blocked_address_gets_neither_self_service_nor_downloads(customers: Customers, database: Database) -> None:
    service, blocked = customers.service, "203.0.113.7"
    put(service, NAME, CONTENT)
    (card_id,) = service.issue()
    body = json.dumps(question(card_id, function=DOWNLOAD)).encode()
    offered = service.request("POST", "/v1/files", body, JSON | {"X-Real-IP": blocked})
    (url,) = (file["url"] for file in offered.claims["files"])
    blocks = Blocks(database, "tester", utc_now)
    blocks.add(blocks.network("203.0.113.0/24"), "charged back")
    wait_in_force(database.execute_sql)
    for route in ROUTES:
        answer = customers.ask(route, address=blocked, card_id=card_id, with_card_id=card_id)
        assert (answer.status, answer.body["code"]) == (403, "CLIENT_BLOCKED")
    is_problem(fetch(service, url, X_Real_IP=blocked), 403, "CLIENT_BLOCKED")
    page = fetch(service, "/card", X_Real_IP=blocked)
    assert (page.status, page.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert "x-accel-redirect" in fetch(service, url, X_Real_IP="198.51.100.9").headers
    assert customers.ask("status", card_id=card_id).status == 200


def codes(answers: list[Response]) -> list[object]:
    return sorted(answer.body.get("reason", answer.body.get("code", "OK")) for answer in answers)


def test_of_renewals_with_the_same_card_or_of_each_other_one_succeeds(customers: Customers) -> None:
    def renew(card_id: str, with_card_id: str) -> partial[Response]:
        return partial(customers.ask, "renew", card_id=card_id, with_card_id=with_card_id)

    for number in range(ROUNDS):
        *own, new, one, two = customers.service.issue(7)
        before = {card_id: in_use(customers.service, card_id, f"{number} {card_id}").expires_at for card_id in own}
        assert codes(at_once([renew(card_id, new) for card_id in own])) == ["OK"] + ["second_card_spent"] * 3
        gained = {card_id for card_id in own if Card.get_by_id(card_id).expires_at == before[card_id] + 30 * DAY}
        assert gained == {Card.get_by_id(new).renewed_card_id}
        assert {card_id for card_id in own if Card.get_by_id(card_id).expires_at == before[card_id]} == {*own} - gained
        assert codes(at_once([renew(one, two), renew(two, one)])) == ["OK", "card_spent"]
        assert {Card.get_by_id(one).renewed_card_id, Card.get_by_id(two).renewed_card_id} in ({one, None}, {two, None})
    assert Event.select().where(Event.kind == "renewed").count() == 4 * ROUNDS


def test_an_activation_and_a_renewal_with_the_same_card_exclude_each_other(customers: Customers) -> None:
    service = customers.service
    for number in range(ROUNDS):
        own, new = service.issue(2)
        verified, renewed = at_once(
            [
                partial(service.verify, question(new, f"{number}"), address="192.0.2.1"),
                partial(customers.ask, "renew", card_id=own, with_card_id=new),
            ]
        )
        card = Card.get_by_id(new)
        assert (verified.status, renewed.status) == ((200, 403) if card.is_activated else (403, 200))
        assert verified.body["code"] == ("OK" if card.is_activated else "CARD_SPENT")
        assert Client.select().where(Client.card == new).count() == card.is_activated
        assert (card.renewed_card_id is None) == card.is_activated


def test_customers_who_keep_cards_locked_keep_no_customer_waiting(one_worker: Service, database: Database) -> None:
    customers = Customers(one_worker, database)
    locked, mine = one_worker.issue(2)
    flood = [
        partial(customers.ask, "unbind", address=f"2001:db8:1:{network:x}::1", card_id=locked) for network in range(12)
    ]
    hold_up(one_worker, "SELECT FROM card WHERE id = %s FOR UPDATE", flood, mine, [locked])
    assert customers.ask("status", card_id=mine).status == 200
