"""What operators' actions and moves write: a move binds a card to the machine that was rejected under a reference."""
# Owns action-move.

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from app.domain.cards.card_actions import TIMED, Action
from app.domain.codes import CardStatus, Code, EventKind
from app.domain.texts import RefusedError
from app.services.cards.card_actions import CardActions, CardNotFoundError
from app.services.cards.card_moves import CardMoves
from app.services.cards.issuing import Issuing
from app.services.licence.verification import Verification
from app.storage import bindings, cards, journal
from app.storage.database import Database
from app.storage.models import Card, Client, Event
from tests.conftest import START, Clock
from tests.support.licence.asking import ask, kinds
from tests.support.query_plans import statements
from tests.support.services.service import Service, question, wait_for_lock

DAYS_30 = timedelta(days=30)


def test_the_sql_of_a_status_finds_what_the_rules_say(
    verification: Verification, card_actions: CardActions, issuing: Issuing, clock: Clock
) -> None:
    made = [card.id for validity in (DAYS_30, timedelta(days=1), None) for card in issuing.issue(4, validity).cards]
    for number, card_id in enumerate(made):
        if number % 4 >= 2:
            ask(verification, card_id, hardware=f"machine {number}")
    card_actions.apply(Action.FREEZE, [card_id for number, card_id in enumerate(made) if number % 2])
    Card.update(renewed_card_id=made[2]).where(Card.id == made[0]).execute()
    for now in (clock.now, clock.now.replace(microsecond=0) + timedelta(days=1), clock.now + timedelta(days=400)):
        for status in CardStatus:
            found = {row.id for row in Card.select().where(cards.status_is(status, now))}
            assert found == {row.id for row in Card.select() if cards.as_domain(row).status(now) is status}
            assert found or status is CardStatus.EXPIRED, "each status is tried"


def test_a_command_over_several_cards_is_all_or_nothing_and_one_without_effect_is_not_journalled(
    card_actions: CardActions, issuing: Issuing, card_id: str
) -> None:
    permanent = issuing.issue(1, None).cards[0].id
    with pytest.raises(RefusedError, match="permanent"):
        card_actions.apply(Action.EXTEND, [card_id, permanent], timedelta(days=1))
    with pytest.raises(CardNotFoundError):
        card_actions.apply(Action.FREEZE, [card_id, "Z" * 32])
    assert (Card.get_by_id(card_id).validity, Card.get_by_id(card_id).frozen_at) == (DAYS_30, None)
    assert kinds() == []
    for action in (Action.UNFREEZE, Action.UNBIND, Action.FREEZE, Action.FREEZE):
        card_actions.apply(action, [card_id])
    assert kinds() == [EventKind.FROZEN]


def test_an_action_takes_as_many_statements_for_a_hundred_cards_as_for_one(
    database: Database, card_actions: CardActions, issuing: Issuing, verification: Verification
) -> None:
    one, *many = (card.id for card in issuing.issue(101, DAYS_30).cards)
    for number, card_id in enumerate((one, *many[:50])):
        ask(verification, card_id, hardware=f"machine {number}")
    for action in (Action.FREEZE, Action.UNFREEZE, Action.EXTEND, Action.SHORTEN, Action.UNBIND):
        by = timedelta(days=1) if action in TIMED else None
        with statements(database) as of_one:
            card_actions.apply(action, [one], by)
        with statements(database) as of_many:
            changed = card_actions.apply(action, many, by).changed
        assert set(changed) == set(many[:50] if action is Action.UNBIND else many)
        assert [sql.split()[0] for sql, _ in of_many] == [sql.split()[0] for sql, _ in of_one], action
        assert len(of_many) == 4, "the lock, who is bound, the change, the journal"
    with statements(database) as ran:
        card_actions.apply(Action.DELETE, many[50:])
    assert len(ran) == 5, "and who was renewed"
    assert (Card.select().count(), Client.select().count()) == (51, 0)
    assert {(card.validity, card.frozen_at) for card in Card.select()} == {(DAYS_30, None)}


def test_a_preview_reads_all_cards_at_once(database: Database, card_actions: CardActions, issuing: Issuing) -> None:
    made = [card.id for card in issuing.issue(20, DAYS_30).cards]
    Card.update(renewed_card_id=made[1]).where(Card.id == made[0]).execute()
    for action, queries in ((Action.DELETE, 2), (Action.FREEZE, 1)):
        with statements(database) as ran:
            preview = card_actions.preview(action, made)
        assert len(ran) == queries
        assert len(preview.changes) + len(preview.unchanged) + len(preview.refused) == len(made)
    assert [card.id for card, _why in card_actions.preview(Action.DELETE, made).refused] == made[:2]


OLD, NEW = ("old machine", "203.0.113.1"), ("new machine", "198.51.100.7")
ENTRY = journal.Entry(
    START, EventKind.REJECTED, Code.CLIENT_MISMATCH, reference="REFERENC", hardware=NEW[0], ip=NEW[1], function="f"
)


def code_of(service: Service, card_id: str, machine: tuple[str, str]) -> str:
    hardware, address = machine
    return str(service.verify(question(card_id, hardware), address=address).body["code"])


def rejected(service: Service, card_id: str, machine: tuple[str, str] = NEW) -> str:
    """Have the machine rejected for a card that is bound to the old one; return the reference."""
    assert code_of(service, card_id, OLD) == "OK"
    assert code_of(service, card_id, machine) == "CLIENT_MISMATCH"
    return str(Event.select().order_by(Event.id.desc()).get().reference)


@pytest.fixture
def moves(database: Database) -> CardMoves:
    return CardMoves(database, "boss", lambda: START)


def test_the_rejected_machine_gets_the_card_and_the_old_one_loses_it(proxied: Service) -> None:
    card_id, other_id = proxied.issue(2)
    assert code_of(proxied, other_id, ("bystander", "192.0.2.9")) == "OK"
    reference = rejected(proxied, card_id)
    (refusal,) = proxied.cardctl_json("events", "--reference", reference)
    assert refusal["details"]["before"] == {"hardware": OLD[0], "ip": OLD[1]}
    client = Client.get(Client.card == card_id)
    done = proxied.cardctl("card", "move", card_id.lower(), "--reference", reference.lower())
    assert f"Moved {card_id}" in done.stderr
    assert not [word for word in (*OLD, *NEW) if word not in done.stdout]
    moved = Client.get(Client.card == card_id)
    assert (moved.id, moved.hardware, moved.ip) == (client.id, *NEW)
    assert Client.get(Client.card == other_id).hardware == "bystander"
    entry = Event.get(Event.kind == EventKind.MOVED)
    assert (entry.card_id, entry.hardware, entry.ip, entry.reference) == (card_id, *NEW, reference)
    assert entry.details == {"before": {"hardware": OLD[0], "ip": OLD[1]}}
    assert entry.actor.startswith("cardctl:")
    shown = proxied.cardctl("events", "--reference", reference).stdout
    assert "这不是绑定的设备" in shown
    assert shown.index("CLIENT_MISMATCH") < shown.index("moved"), "the rejection is explained first"
    assert "Nothing changed" in proxied.cardctl("card", "move", card_id, "--reference", reference).stderr
    assert Event.select().where(Event.kind == EventKind.MOVED).count() == 1
    assert code_of(proxied, card_id, OLD) == "CLIENT_MISMATCH"
    assert code_of(proxied, card_id, NEW) == "OK"


def test_what_cannot_be_moved_is_named_and_changes_nothing(proxied: Service, moves: CardMoves) -> None:
    card_id, other, live, fresh = proxied.issue(4)
    reference = rejected(proxied, card_id)
    assert code_of(proxied, other, ("third machine", "192.0.2.1")) == "OK"
    before = list(Client.select().order_by(Client.id).dicts())
    journal.append([replace(ENTRY, code=Code.CARD_FROZEN, card_id=fresh, reference="FROZENXX")])
    for wanted, given in ((card_id, "ZZZZZZZZ"), (card_id, ""), (other, reference), (fresh, "FROZENXX")):
        with pytest.raises(RefusedError, match="is no CLIENT_MISMATCH of card"):
            moves.apply(wanted, given)
    for wanted in ("0" * 32, "no card"):
        with pytest.raises(CardNotFoundError):
            moves.apply(wanted, reference)
    assert code_of(proxied, live, NEW) == "OK"
    with pytest.raises(RefusedError, match=f"another live card, {live}"):
        moves.preview(card_id, reference)
    assert f"another live card, {live}" in proxied.refusal("card", "move", card_id, "--reference", reference)
    journal.append([replace(ENTRY, card_id=fresh)])
    with pytest.raises(RefusedError, match="not activated"):
        moves.apply(fresh, str(ENTRY.reference))
    assert list(Client.select().where(Client.card != live).order_by(Client.id).dicts()) == before
    assert not Event.select().where(Event.kind == EventKind.MOVED).exists()


def test_the_machine_s_card_that_is_no_longer_live_is_released(proxied: Service, moves: CardMoves) -> None:
    card_id, dead = proxied.issue(2)
    reference = rejected(proxied, card_id)
    assert code_of(proxied, dead, NEW) == "OK"
    client, rival = Client.get(Client.card == card_id), Client.get(Client.card == dead)
    Card.update(frozen_at=START).where(Card.id == dead).execute()
    assert moves.preview(card_id, reference).rival == rival
    moves.apply(card_id, reference)
    assert [(c.id, c.card_id, c.hardware) for c in Client.select()] == [(client.id, card_id, NEW[0])]
    released = Event.get(Event.kind == EventKind.RELEASED)
    assert (released.card_id, released.details) == (dead, {"moved_to": card_id, "client_id": rival.id})


def test_a_card_that_was_unbound_meanwhile_is_bound_with_the_client_of_the_machines_dead_card(
    proxied: Service, moves: CardMoves
) -> None:
    card_id, dead = proxied.issue(2)
    reference = rejected(proxied, card_id)
    proxied.cardctl("card", "unbind", card_id)
    moves.apply(card_id, reference)
    assert (Client.get().card_id, Client.get().hardware, Client.get().ip) == (card_id, *NEW)
    proxied.cardctl("card", "unbind", card_id)
    assert code_of(proxied, dead, NEW) == "OK"
    Card.update(activated_at=START - timedelta(days=30), expires_at=START).where(Card.id == dead).execute()
    known = Client.get().id
    moves.apply(card_id, reference)
    assert [(client.id, client.card_id) for client in Client.select()] == [(known, card_id)]
    assert code_of(proxied, card_id, NEW) == "OK"


def test_a_move_waits_for_another_writer_and_sees_what_it_did(
    proxied: Service, moves: CardMoves, database: Database
) -> None:
    card_id, other = proxied.issue(2)
    reference = rejected(proxied, card_id)
    with ThreadPoolExecutor(1) as pool:
        with database.atomic():
            bindings.lock_cards([card_id])
            moving = pool.submit(moves.apply, card_id, reference)
            wait_for_lock(database)
            assert code_of(proxied, other, NEW) == "OK"  # the machine gets a live card meanwhile
        with pytest.raises(RefusedError, match="another live card"):
            moving.result()
    assert Client.get(Client.card == card_id).hardware == OLD[0]
