"""Self-service without a server: what it changes, what it journals, and what it leaves alone."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.domain.cards.card_actions import Action
from app.domain.cards.cards import card_id_of
from app.domain.codes import Code, EventKind
from app.domain.licence.terms import RenewTerm, Terms
from app.domain.selfservice.self_service import RenewNotAllowedError, Standing, UnbindNotAllowedError
from app.services.cards.card_actions import CardActions, CardNotFoundError
from app.services.licence.guesses import TooFastError
from app.services.licence.in_force import InForce, VendorRules
from app.services.licence.licence import Verification
from app.services.selfservice.self_service import ChangedMeanwhileError, Customer, SelfService
from app.storage import bindings, journal
from app.storage.database import Database
from app.storage.journal import MAX_REFUSALS_PER_MINUTE
from app.storage.models import Card, Client, Event
from tests.conftest import START, Clock
from tests.support.licence.asking import ask
from tests.support.query_plans import rows_looked_at, statements
from tests.support.services.service import wait_for_lock

DAY = timedelta(days=1)
NO_CARD = "0" * 32
TERMS = Terms(self_service=True, self_unbind_per_30_days=2, self_unbind_cost=DAY, self_renew=RenewTerm.ANY)
CUSTOMER = Customer("198.51.100.1", InForce(TERMS, 3))


@pytest.fixture
def self_service(database: Database, clock: Clock) -> SelfService:
    return SelfService(database, VendorRules(database), ZoneInfo("Asia/Shanghai"), clock)


@pytest.fixture
def bound_id(verification: Verification, card_id: str) -> str:
    """A card that the machine h1 has just activated."""
    assert ask(verification, card_id).code is Code.OK
    return card_id


def with_terms(**terms: Any) -> Customer:
    return Customer(CUSTOMER.address, InForce(Terms(self_service=True, **terms)))


def last() -> Event:
    event: Event = Event.select().order_by(Event.id.desc()).get()
    return event


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


def test_an_unbinding_costs_what_the_terms_say_and_frees_the_card(
    self_service: SelfService, verification: Verification, bound_id: str
) -> None:
    standing = self_service.unbind(CUSTOMER, bound_id)
    until = START.replace(microsecond=0) + 29 * DAY
    assert (standing.is_bound, standing.card.expires_at, standing.allowed.unbinds_left) == (False, until, 1)
    assert Card.get_by_id(bound_id).expires_at == until
    entry = last()
    assert (entry.kind, entry.card_id, entry.actor, entry.ip) == ("self_unbound", bound_id, "customer", "198.51.100.1")
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


def test_what_a_customer_confirmed_must_still_hold(
    self_service: SelfService, card_actions: CardActions, bound_id: str
) -> None:
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


def test_the_time_is_read_under_the_lock(
    self_service: SelfService, database: Database, clock: Clock, bound_id: str
) -> None:
    def unbind() -> Standing:
        try:
            return self_service.unbind(CUSTOMER, bound_id)
        finally:
            database.close()

    with ThreadPoolExecutor(1) as pool:
        with database.atomic():
            bindings.lock_cards([bound_id])
            unbinding = pool.submit(unbind)
            wait_for_lock(database)
            clock.advance(timedelta(hours=1))
        assert unbinding.result(60).at == clock.now
    assert last().at == clock.now


def test_a_renewal_adds_the_second_cards_validity_and_spends_it(
    self_service: SelfService, verification: Verification, bound_id: str, other_id: str
) -> None:
    planned = self_service.renewal(CUSTOMER, bound_id, other_id)
    standing = self_service.renew(CUSTOMER, bound_id, other_id)
    until = START.replace(microsecond=0) + 60 * DAY
    assert standing.card == planned.after
    assert (standing.is_bound, standing.card.expires_at, Card.get_by_id(bound_id).expires_at) == (True, until, until)
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
        (bound_id, CUSTOMER, "same_card"),
        (other_id, with_terms(), "not_allowed"),
        (NO_CARD, with_terms(), "not_allowed"),
    ):
        for refuse in (self_service.renewal, self_service.renew):
            with pytest.raises(RenewNotAllowedError) as refused:
                refuse(customer, bound_id, second)
            assert refused.value.reason == reason
    assert everything() == before


def test_unknown_cards_are_journalled_as_other_refusals_and_within_their_bounds(
    self_service: SelfService, clock: Clock, bound_id: str
) -> None:
    for ask_for, error in (
        (lambda: self_service.status(CUSTOMER, "an old key"), CardNotFoundError),
        (lambda: self_service.unbind(CUSTOMER, NO_CARD.lower()), CardNotFoundError),
        (lambda: self_service.renew(CUSTOMER, NO_CARD, bound_id), CardNotFoundError),
        (lambda: self_service.renew(CUSTOMER, bound_id, NO_CARD), RenewNotAllowedError),
    ):
        with pytest.raises(error):
            ask_for()
    found = list(Event.select().where(Event.code == Code.CARD_NOT_FOUND).order_by(Event.id))
    assert [event.card_id for event in found] == ["an old key", *[NO_CARD] * 3]
    assert {(event.actor, event.ip, event.details["terms"]) for event in found} == {("customer", CUSTOMER.address, 3)}
    for _ in range(30):
        with pytest.raises(CardNotFoundError):
            self_service.status(CUSTOMER, NO_CARD)
    refusals = Event.select().where(Event.code == Code.CARD_NOT_FOUND)
    assert refusals.count() == MAX_REFUSALS_PER_MINUTE
    for guess in (
        lambda text: self_service.status(CUSTOMER, text),
        lambda text: self_service.renew(CUSTOMER, bound_id, text),
    ):
        with pytest.raises(TooFastError) as refused:
            guess("an old key")
        assert refused.value.retry_after == 60
    clock.advance(timedelta(minutes=1))
    with pytest.raises(CardNotFoundError):
        self_service.status(CUSTOMER, NO_CARD)
    assert refusals.count() == MAX_REFUSALS_PER_MINUTE + 1


def test_a_cards_unbindings_are_counted_by_index(
    self_service: SelfService, database: Database, clock: Clock, card_id: str
) -> None:
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
