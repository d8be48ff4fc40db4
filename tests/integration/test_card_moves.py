"""Moves: an operator binds a card to the machine that was rejected under a reference."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from app.domain.codes import Code, EventKind
from app.domain.texts import RefusedError
from app.services.card_actions import CardNotFoundError
from app.services.card_moves import CardMoves
from app.storage import bindings, journal
from app.storage.database import Database
from app.storage.models import Card, Client, Event
from tests.conftest import START
from tests.support.service import Service, question, wait_for_lock

OLD, NEW = ("old machine", "203.0.113.1"), ("new machine", "198.51.100.7")
ENTRY = journal.Entry(
    START, EventKind.REJECTED, Code.CLIENT_MISMATCH, reference="REFERENC", hardware=NEW[0], ip=NEW[1], function="f"
)


def ask(service: Service, card_id: str, machine: tuple[str, str]) -> str:
    hardware, address = machine
    return str(service.verify(question(card_id, hardware), address=address).body["code"])


def rejected(service: Service, card_id: str, machine: tuple[str, str] = NEW) -> str:
    """Have the machine rejected for a card that is bound to the old one; return the reference."""
    assert ask(service, card_id, OLD) == "OK"
    assert ask(service, card_id, machine) == "CLIENT_MISMATCH"
    return str(Event.select().order_by(Event.id.desc()).get().reference)


@pytest.fixture
def moves(database: Database) -> CardMoves:
    return CardMoves(database, "boss", lambda: START)


def test_the_rejected_machine_gets_the_card_and_the_old_one_loses_it(proxied: Service) -> None:
    (card_id,) = proxied.issue()
    reference = rejected(proxied, card_id)
    client = Client.get()
    done = proxied.cardctl("card", "move", card_id.lower(), "--reference", reference.lower())
    assert f"Moved {card_id}" in done.stderr
    assert [word in done.stdout for word in (*OLD, *NEW)] == [True] * 4
    moved = Client.get()
    assert (moved.id, moved.card_id, moved.hardware, moved.ip) == (client.id, card_id, *NEW)
    entry = Event.get(Event.kind == EventKind.MOVED)
    assert (entry.card_id, entry.hardware, entry.ip, entry.reference) == (card_id, *NEW, reference)
    assert entry.details == {"before": {"hardware": OLD[0], "ip": OLD[1]}}
    assert entry.actor.startswith("cardctl:")
    assert ask(proxied, card_id, OLD) == "CLIENT_MISMATCH"
    assert ask(proxied, card_id, NEW) == "OK"


def test_a_move_changes_no_other_cards_client(proxied: Service, moves: CardMoves) -> None:
    (card_id,), (other_id,) = proxied.issue(), proxied.issue()
    assert ask(proxied, other_id, ("bystander", "192.0.2.9")) == "OK"
    moves.apply(card_id, rejected(proxied, card_id))
    bound = {client.card_id: (client.hardware, client.ip) for client in Client.select()}
    assert bound == {card_id: NEW, other_id: ("bystander", "192.0.2.9")}


def test_a_mismatch_keeps_what_the_card_was_bound_to(proxied: Service) -> None:
    (card_id,) = proxied.issue()
    reference = rejected(proxied, card_id)
    (entry,) = proxied.cardctl_json("events", "--reference", reference)
    assert entry["details"]["before"] == {"hardware": OLD[0], "ip": OLD[1]}


def test_a_reference_is_explained_with_the_command_that_helps(proxied: Service) -> None:
    (card_id,) = proxied.issue()
    reference = rejected(proxied, card_id)
    proxied.cardctl("card", "unbind", card_id)
    assert ask(proxied, card_id, ("third machine", "192.0.2.3")) == "OK"
    shown = proxied.cardctl("events", "--reference", reference)
    for text in (
        "这不是绑定的设备",
        " @ ".join(OLD),
        " @ ".join(NEW),
        "third machine @ 192.0.2.3",
        "active",
    ):
        assert text in shown.stdout, text
    assert f"cardctl card move {card_id} --reference {reference}" in shown.stderr
    assert ask(proxied, "NO SUCH CARD", NEW) == "CARD_NOT_FOUND"
    unknown = Event.select().order_by(Event.id.desc()).get().reference
    assert "它已被删除" in proxied.cardctl("events", "--reference", unknown).stdout


def test_a_reference_explains_its_rejection_after_the_move(proxied: Service) -> None:
    (card_id,) = proxied.issue()
    reference = rejected(proxied, card_id)
    proxied.cardctl("card", "move", card_id, "--reference", reference)
    shown = proxied.cardctl("events", "--reference", reference).stdout
    assert "这不是绑定的设备" in shown
    assert shown.index("CLIENT_MISMATCH") < shown.index("moved")


def test_a_second_move_changes_nothing(proxied: Service) -> None:
    (card_id,) = proxied.issue()
    command = ("card", "move", card_id, "--reference", rejected(proxied, card_id))
    proxied.cardctl(*command)
    assert "Nothing changed" in proxied.cardctl(*command).stderr
    assert Event.select().where(Event.kind == EventKind.MOVED).count() == 1


def test_what_cannot_be_moved_is_named_and_changes_nothing(proxied: Service, moves: CardMoves) -> None:
    card_id, other, live, fresh = proxied.issue(4)
    reference = rejected(proxied, card_id)
    assert ask(proxied, other, ("third machine", "192.0.2.1")) == "OK"
    frozen = proxied.issue()[0]
    proxied.cardctl("card", "freeze", frozen)
    assert ask(proxied, frozen, NEW) == "CARD_FROZEN"
    frozen_reference = Event.select().order_by(Event.id.desc()).get().reference
    before = list(Client.select().order_by(Client.id).dicts())
    for wanted, given in ((card_id, "ZZZZZZZZ"), (card_id, ""), (other, reference), (frozen, frozen_reference)):
        with pytest.raises(RefusedError, match="is no CLIENT_MISMATCH of card"):
            moves.apply(wanted, given)
    for wanted in ("0" * 32, "no card"):
        with pytest.raises(CardNotFoundError):
            moves.apply(wanted, reference)
    assert ask(proxied, live, NEW) == "OK"
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
    assert ask(proxied, dead, NEW) == "OK"
    client, rival = Client.get(Client.card == card_id), Client.get(Client.card == dead)
    Card.update(frozen_at=START).where(Card.id == dead).execute()
    assert moves.preview(card_id, reference).rival == rival
    moves.apply(card_id, reference)
    assert [(c.id, c.card_id, c.hardware) for c in Client.select()] == [(client.id, card_id, NEW[0])]
    released = Event.get(Event.kind == EventKind.RELEASED)
    assert (released.card_id, released.details) == (dead, {"moved_to": card_id, "client_id": rival.id})


@pytest.mark.parametrize("has_dead_card", [False, True])
def test_a_card_that_was_unbound_meanwhile_is_bound(proxied: Service, moves: CardMoves, *, has_dead_card: bool) -> None:
    card_id, dead = proxied.issue(2)
    reference = rejected(proxied, card_id)
    if has_dead_card:
        assert ask(proxied, dead, NEW) == "OK"
        Card.update(activated_at=START - timedelta(days=30), expires_at=START).where(Card.id == dead).execute()
    known = {client.id for client in Client.select().where(Client.card == dead)}
    proxied.cardctl("card", "unbind", card_id)
    moves.apply(card_id, reference)
    bound = Client.get()
    assert (bound.card_id, bound.hardware, bound.ip) == (card_id, *NEW)
    assert (bound.id in known) == has_dead_card
    assert ask(proxied, card_id, NEW) == "OK"


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
            assert ask(proxied, other, NEW) == "OK"  # the machine gets a live card meanwhile
        with pytest.raises(RefusedError, match="another live card"):
            moving.result()
    assert Client.get(Client.card == card_id).hardware == OLD[0]
