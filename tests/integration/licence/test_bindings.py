"""The guarded writes of a verification: what they write, and that stale facts write nothing."""
# Owns verdict-guarded.

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from hashlib import sha256
from typing import Any

import peewee
import pytest

from app.domain.cards.cards import CardFacts
from app.domain.codes import Code, EventKind
from app.domain.licence.policy import ClientFacts, Decision, Facts, VerificationRequest, decide
from app.storage import bindings, journal
from app.storage.database import Database
from app.storage.models import Card, Client, Event, Usage
from tests.conftest import START
from tests.support.concurrency import wait_behind
from tests.support.licence import bound_cards
from tests.support.query_plans import statements
from tests.support.tables import for_each

CARD, RIVAL_CARD, UNUSED = "A" * 32, "B" * 32, "C" * 32
CLIENT, RIVAL_CLIENT, NEW, OTHER = "1" * 32, "2" * 32, "3" * 32, "4" * 32
DAY, DAYS_30 = date(2026, 3, 1), timedelta(days=30)
AT = START.replace(microsecond=0)
LATER = START + timedelta(minutes=1)
REQUEST = VerificationRequest.from_fields(CARD, "h1", "f", "n" * 22, "2001:db8::1")
RIVAL = VerificationRequest.from_fields(RIVAL_CARD, "h2", "f", "n" * 22, "198.51.100.2")
NEWCOMER = VerificationRequest.from_fields(UNUSED, "h3", "f", "n" * 22, "198.51.100.3")
MOVING = REQUEST._replace(card_id=UNUSED, sent_card_id=UNUSED)


def apply(
    database: Database, request: VerificationRequest, facts: Facts | None = None, kind: Any = EventKind.ACTIVATED
) -> bool:
    """Write what the rules say to these facts, or to the present ones, with an entry of this kind."""
    facts = facts or bindings.read_facts(database, request.card_id, request.hardware_sha256)
    decision = decide(facts, request, LATER)
    entries = [replace(journal.Entry(LATER, EventKind.ACTIVATED, card_id=request.card_id), kind=kind)]
    return bindings.apply(database, facts, decision, request, at=LATER, day=DAY, entries=entries, client_id=NEW)


def rows() -> bound_cards.Rows:
    cards, clients, usage = bound_cards.rows()
    return [cards, clients, list(Event.select().order_by(Event.id).dicts()), usage]


@pytest.fixture
def bound(database: Database) -> Facts:
    """A card and its rival, each bound, with usage on two days and of two functions, and an unused card."""
    for card_id, client_id, request in ((CARD, CLIENT, REQUEST), (RIVAL_CARD, RIVAL_CLIENT, RIVAL)):
        times = {"activated_at": AT, "expires_at": AT + DAYS_30}
        Card.insert(id=card_id, validity=DAYS_30, is_activated=True, created_at=AT, **times).execute()
        environment = {"hardware": request.hardware, "hardware_sha256": request.hardware_sha256, "ip": request.address}
        Client.insert(id=client_id, card=card_id, requested_at=AT, function="old", **environment).execute()
        for day, function in ((DAY, "f"), (DAY, "g"), (DAY - timedelta(days=1), "f")):
            Usage.insert(card=card_id, day=day, function=function, count=3, last_at=AT).execute()
    Card.insert(id=UNUSED, validity=DAYS_30, created_at=AT).execute()
    return bindings.read_facts(database, CARD, REQUEST.hardware_sha256)


def test_facts_are_the_card_its_client_and_the_rival_with_its_card(database: Database, bound: Facts) -> None:
    Card.update(frozen_at=START).where(Card.id == RIVAL_CARD).execute()
    Card.update(validity=timedelta(days=7), expires_at=AT + timedelta(days=7)).where(Card.id == CARD).execute()
    card = CardFacts(CARD, timedelta(days=7), AT, AT + timedelta(days=7), None)
    client = ClientFacts(CLIENT, CARD, "h1", "2001:db8::1")
    rival_card = CardFacts(RIVAL_CARD, DAYS_30, AT, AT + DAYS_30, START)
    rival = ClientFacts(RIVAL_CLIENT, RIVAL_CARD, "h2", "198.51.100.2")
    own, others, unknown = REQUEST.hardware_sha256, RIVAL.hardware_sha256, "0" * 64
    assert bindings.read_facts(database, CARD, own) == Facts(card, client)
    assert bindings.read_facts(database, CARD, unknown) == Facts(card, client)
    assert bindings.read_facts(database, CARD, others) == Facts(card, client, rival, rival_card)
    unused = CardFacts(UNUSED, DAYS_30, None, None, None)
    assert bindings.read_facts(database, UNUSED, unknown) == Facts(unused)
    assert bindings.read_facts(database, UNUSED, others) == Facts(unused, None, rival, rival_card)
    assert bindings.read_facts(database, "Z" * 32, own) == Facts()


def change(table: Any, key: str, **columns: object) -> Callable[[], object]:
    return lambda: table.update(**columns).where(table.id == key).execute()


STALE: dict[str, Callable[[], object]] = {
    "frozen": change(Card, CARD, frozen_at=AT),
    "extended": change(Card, CARD, expires_at=AT + timedelta(days=31)),
    "made permanent": change(Card, CARD, expires_at=None, validity=None),
    "unbound": lambda: Client.delete().where(Client.id == CLIENT).execute(),
    "bound to another machine": change(Client, CLIENT, hardware="h3", hardware_sha256=sha256(b"h3").hexdigest()),
    "at another address": change(Client, CLIENT, ip="2001:db8::3"),
    "moved to another card": change(Client, CLIENT, card=UNUSED),
    "bound anew": change(Client, CLIENT, id=OTHER),
}


@for_each("way", STALE)
def test_stale_facts_write_nothing(database: Database, bound: Facts, way: str) -> None:
    with database.atomic() as transaction:
        STALE[way]()
        before = rows()
        assert not apply(database, REQUEST, bound)
        assert rows() == before
        transaction.rollback()


def environment(request: VerificationRequest) -> dict[str, Any]:
    names = {"hardware": request.hardware, "hardware_sha256": request.hardware_sha256, "ip": request.address}
    return {"card": request.card_id, "program": "main", **names, "requested_at": LATER, "function": request.function}


def usage_of(card_id: str, count: int) -> dict[str, Any]:
    return {"card": card_id, "day": DAY, "function": "f", "count": count, "last_at": LATER}


def test_an_unused_card_is_activated_bound_counted_and_journalled(database: Database, bound: Facts) -> None:
    cards, clients, _events, usage = rows()
    assert apply(database, NEWCOMER)
    whole = LATER.replace(microsecond=0)
    cards[2] |= {"is_activated": True, "activated_at": whole, "expires_at": whole + DAYS_30}
    written = rows()
    assert written[:2] == [cards, [*clients, {"id": NEW, **environment(NEWCOMER)}]]
    assert [(event["kind"], event["card_id"], event["at"]) for event in written[2]] == [("activated", UNUSED, LATER)]
    assert written[3] == [*usage, usage_of(UNUSED, 1)]


def test_a_machine_moves_from_a_dead_card_with_its_client_unless_the_card_keeps_its_own(
    database: Database, bound: Facts
) -> None:
    for dead, request, kept in (
        (CARD, MOVING._replace(address="198.51.100.9"), [rows()[1][1]]),
        (RIVAL_CARD, REQUEST._replace(hardware=RIVAL.hardware, hardware_sha256=RIVAL.hardware_sha256), []),
    ):
        with database.atomic() as transaction:
            Card.update(frozen_at=AT).where(Card.id == dead).execute()
            assert apply(database, request)
            assert rows()[1] == [{"id": CLIENT, **environment(request)}, *kept]
            assert (usage_of(CARD, 4) in rows()[3]) is (request.card_id == CARD)
            transaction.rollback()


def test_a_decision_without_a_card_cannot_be_written(database: Database) -> None:
    with pytest.raises(ValueError, match=r"^an accepted decision has a card$"):
        bindings.apply(database, Facts(), Decision(Code.OK), REQUEST, at=LATER, day=DAY, entries=[], client_id=NEW)


def test_an_error_that_is_no_conflict_is_raised_and_undoes_everything(database: Database, bound: Facts) -> None:
    before = rows()
    with pytest.raises(peewee.IntegrityError):
        apply(database, REQUEST, kind=None)
    assert rows() == before


def test_what_another_transaction_changes_while_a_write_waits_for_it_is_decided_again(
    database: Database, elsewhere: Database, bound: Facts
) -> None:
    """Another request binds the same machine; the dead card of the machine is revived."""
    Client.delete().where(Client.id == RIVAL_CLIENT).execute()
    insert = "INSERT INTO client (id, card_id, hardware, hardware_sha256, ip, requested_at, function)"
    values = (OTHER, RIVAL_CARD, "h3", NEWCOMER.hardware_sha256, "198.51.100.3", LATER, "f")
    Card.update(frozen_at=AT).where(Card.id == CARD).execute()
    revive = "UPDATE card SET frozen_at = NULL WHERE id = %s"
    for request, statement in (
        (NEWCOMER, (f"{insert} VALUES (%s, %s, %s, %s, %s, %s, %s)", values)),
        (MOVING, (revive, (CARD,))),
    ):
        facts = bindings.read_facts(database, request.card_id, request.hardware_sha256)
        elsewhere.execute_sql(*statement)
        assert not wait_behind(elsewhere, database, partial(apply, database, request, facts)), request
        elsewhere.execute_sql("BEGIN")
    assert (Card.get_by_id(UNUSED).is_activated, Client.get_by_id(CLIENT).card_id) == (False, CARD)


def test_a_card_that_is_deleted_meanwhile_is_not_activated(database: Database, bound: Facts) -> None:
    facts = bindings.read_facts(database, UNUSED, NEWCOMER.hardware_sha256)
    Card.delete().where(Card.id == UNUSED).execute()
    assert not apply(database, NEWCOMER, facts)


def test_cards_are_locked_in_the_order_of_their_ids(database: Database, bound: Facts) -> None:
    with database.atomic(), statements(database) as ran:
        locked = bindings.lock_cards([UNUSED, "Z" * 32, CARD])
    assert [card.id for card in locked] == [CARD, UNUSED]
    # A stronger lock would hold up writers of other tables.
    assert ran[0][0].endswith('ORDER BY "t1"."id" FOR NO KEY UPDATE')
