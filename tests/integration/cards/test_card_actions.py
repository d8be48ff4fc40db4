"""What operators' actions, moves and `cardctl card …` do to cards, and what they print."""
# Owns action-move, action-all-or-nothing, cardctl-cards.

import csv
import io
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from app.domain.cards.card_actions import Action
from app.domain.codes import CardStatus, Code, EventKind
from app.domain.texts import RefusedError
from app.services.cards.card_actions import CardActions, CardNotFoundError
from app.services.cards.card_moves import CardMoves
from app.services.cards.issuing import Issuing
from app.services.licence.licence import Verification
from app.storage import bindings, cards, journal
from app.storage.database import Database
from app.storage.models import Card, Client, Event
from tests.conftest import START, Clock
from tests.support.licence.bound_cards import ask, kinds
from tests.support.query_plans import statements
from tests.support.services.service import ROOT, Service, question, wait_for_lock

DAYS_30 = timedelta(days=30)
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


CONTROL = "\x1b[31mred\x1b[0m\u202eevil[bold]"


def test_an_interrupted_issue_leaves_no_card(offline: Service, database: Database) -> None:
    command = ("card", "issue", "--validity", "1d", "--count", "20000")
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with database.atomic():
        database.execute_sql("LOCK TABLE card IN SHARE MODE")
        process = offline.spawn_cardctl(*command, **output)
        wait_for_lock(database)  # until the cards are written, Python may end by the signal in its own way
        process.send_signal(2)
    _, said = process.communicate(timeout=90)
    assert (process.returncode, len(said.strip().splitlines())) == (1, 1)
    assert "Traceback" not in said
    assert Card.select().count() == 0


def test_a_card_is_shown_with_its_client_whose_texts_are_escaped(service: Service) -> None:
    (card_id,) = service.issue()
    assert service.cardctl_json("card", "show", card_id)["client"] is None
    service.verify(question(card_id, hardware=CONTROL, function=CONTROL, ip=CONTROL))
    document = service.cardctl_json("card", "show", card_id.lower())
    card, client = document["card"], document["client"]
    assert set(client) == {"id", "card_id", "program", "hardware", "hardware_sha256", "ip", "requested_at", "function"}
    assert (card["is_activated"], client["hardware"], client["ip"]) == (True, CONTROL, "127.0.0.1")
    assert datetime.fromisoformat(card["expires_at"]) == Card.get().expires_at
    assert card["expires_at"].endswith("+08:00")
    for command in (f"card show {card_id}", "card list", "card list --format csv", "events"):
        printed = service.cardctl(*command.split()).stdout
        assert not {"\x1b", "\u202e"} & set(printed), command
        assert ("[bold]" in printed, card_id in printed) == (True, True), command


def test_a_search_reads_messages_and_leads_to_a_refusal(service: Service) -> None:
    first, second = service.issue(2)
    service.cardctl("card", "freeze", first)
    service.verify(question(first))
    service.verify(question("VIP-0001"))
    refused, unknown = (Event.get(Event.code == code).reference for code in (Code.CARD_FROZEN, Code.CARD_NOT_FOUND))
    for text, hint in ((f"参考号 {refused}", True), (f"card {first} broken", False)):
        done = service.cardctl("card", "list", "--search", text, "--format", "txt")
        assert done.stdout.split() == [first]
        assert (f"cardctl events --reference {refused}" in done.stderr) is hint
    done = service.cardctl("card", "list", "--search", unknown, "--format", "txt")
    assert (done.stdout, f"cardctl events --reference {unknown}" in done.stderr) == ("", True)
    both = service.cardctl("card", "list", "--search", f"{first} {second} {'7' * 32}", "--format", "txt")
    assert sorted(both.stdout.split()) == sorted([first, second])
    assert f"No such cards: {'7' * 32}" in both.stderr


def test_actions_are_reported_and_journalled(service: Service) -> None:
    first, second = service.issue(2)
    service.verify(question(first))
    for action, done in (
        ("freeze", "已冻结 2 张"),
        ("unfreeze", "已解冻 2 张"),
        ("unbind", "已解绑 1 张"),
        ("extend --by week", "已延期 2 张"),
    ):
        assert done in service.cardctl("card", *action.split(), first, second).stderr
    assert "已删除 1 张" in service.cardctl("card", "delete", second).stderr
    kinds = [e.kind for e in Event.select().where(Event.actor.is_null(is_null=False)).order_by(Event.id)]
    assert kinds == ["issued", *["frozen"] * 2, *["unfrozen"] * 2, "unbound", *["extended"] * 2, "deleted"]
    assert Event.get(Event.kind == "frozen").actor.startswith("cardctl:")
    assert Client.select().count() == 0
    assert "Shortened: 1" in service.cardctl("card", "shorten", first, "--by", "周卡").stderr
    assert "Changed: 1" in service.cardctl("card", "edit", first, "--batch", "b", "--note", "").stderr
    assert (Card.get().batch, Card.get().note) == ("b", None)
    Card.insert(id="7" * 32, renewed_card_id=first, created_at=Card.get().created_at).execute()
    assert f"freeze {first}" in service.cardctl("card", "show", "7" * 32).stderr, "to stop a card used to renew another"


def test_a_reader_who_stops_early_is_not_an_error(offline: Service) -> None:
    offline.issue(4_000)  # more than a pipe holds
    command = f"{shlex.quote(sys.executable)} -m app card list --format txt | head -n 1"
    done = subprocess.run(command, shell=True, cwd=ROOT, env=offline.environment, capture_output=True, check=True)
    assert (len(done.stdout.strip()), done.stderr) == (32, b"")


def test_a_failure_of_any_command_is_on_stderr_and_nothing_is_printed(keyed: Service) -> None:
    nobody = "0" * 32
    for command, status in {
        ("card", "issue", "--validity", "0d"): 2,
        ("card", "issue", "--validity", "30d", "--batch", "a\nb"): 1,
        ("card", "edit", nobody): 2,
        ("card", "freeze", nobody): 1,
        ("card", "list", "--search", "\udcff"): 1,
        ("card", "import", "/nonexistent.csv"): 1,
        ("events", "--reference", "\udcff"): 1,
        ("events", "--since", "yesterday"): 2,
        ("key", "create"): 1,
        ("seal", "/nowhere/at-all", "-o", "/nowhere/else"): 1,
        ("healthcheck",): 1,
    }.items():
        done = keyed.cardctl(*command, check=False)
        assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (status, "", False), command
        assert status == 2 or len(done.stderr.strip().splitlines()) == 1
        assert done.stderr.strip()
    assert Card.select().count() == 0
    keyed.environment["DATABASE_URL"] = "postgresql://kadun:x@127.0.0.1:1/kadun"
    assert "数据库不可用" in keyed.refusal("card", "list")
    assert "数据库不可用" in keyed.refusal("events", "--follow")


def test_a_status_in_sql_is_that_of_the_rules(
    verification: Verification, card_actions: CardActions, issuing: Issuing, clock: Clock
) -> None:
    made = [card.id for validity in (DAYS_30, timedelta(days=1), None) for card in issuing.issue(4, validity).cards]
    for number, card_id in enumerate(made):
        if number % 4 >= 2:
            ask(verification, card_id, hardware=f"machine {number}")
    card_actions.apply(Action.FREEZE, made[1::2])
    Card.update(renewed_card_id=made[2]).where(Card.id == made[0]).execute()
    for now in (clock.now, clock.now.replace(microsecond=0) + timedelta(days=1), clock.now + timedelta(days=400)):
        for status in CardStatus:
            found = {row.id for row in Card.select().where(cards.status_is(status, now))}
            assert found == {row.id for row in Card.select() if cards.as_domain(row).status(now) is status}
            assert found or status is CardStatus.EXPIRED, "each status is tried"


def test_a_command_changes_all_its_cards_or_none(card_actions: CardActions, issuing: Issuing, card_id: str) -> None:
    permanent = issuing.issue(1, None).cards[0].id
    with pytest.raises(RefusedError, match="permanent"):
        card_actions.apply(Action.EXTEND, [card_id, permanent], timedelta(days=1))
    with pytest.raises(CardNotFoundError):
        card_actions.apply(Action.FREEZE, [card_id, "Z" * 32])
    assert (Card.get_by_id(card_id).validity, Card.get_by_id(card_id).frozen_at) == (DAYS_30, None)
    assert kinds() == []
    for action in (Action.UNFREEZE, Action.UNBIND, Action.FREEZE, Action.FREEZE):
        card_actions.apply(action, [card_id])
    assert kinds() == [EventKind.FROZEN], "what has no effect is not journalled"


def test_an_action_or_a_preview_takes_as_many_statements_for_a_hundred_cards_as_for_one(
    database: Database, card_actions: CardActions, issuing: Issuing, verification: Verification
) -> None:
    one, *many = (card.id for card in issuing.issue(101, DAYS_30).cards)
    for number, card_id in enumerate((one, *many[:50])):
        ask(verification, card_id, hardware=f"machine {number}")
    for action, by in ((Action.FREEZE, None), (Action.UNFREEZE, None), (Action.EXTEND, DAYS_30), (Action.UNBIND, None)):
        with statements(database) as of_one:
            card_actions.apply(action, [one], by)
        with statements(database) as of_many:
            changed = card_actions.apply(action, many, by).changed
        assert set(changed) == set(many[:50] if action is Action.UNBIND else many)
        assert [sql.split()[0] for sql, _ in of_many] == [sql.split()[0] for sql, _ in of_one], action
        assert len(of_many) == 4, "the lock, who is bound, the change, the journal"
    Card.update(renewed_card_id=one).where(Card.id == many[99]).execute()
    with statements(database) as ran:
        preview = card_actions.preview(Action.DELETE, [one, *many])
    assert (len(ran), {card.id for card, _why in preview.refused}) == (2, {*many[:50], many[99], one})
    assert (len(preview.changes), len(preview.unchanged)) == (49, 0)
    with statements(database) as ran:
        card_actions.apply(Action.DELETE, many[50:99])
    assert len(ran) == 5, "and who was renewed"
    assert (Card.select().count(), Client.select().count()) == (52, 0)


def test_a_dead_card_is_released_and_a_card_unbound_meanwhile_is_bound(proxied: Service, moves: CardMoves) -> None:
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
    Card.update(frozen_at=None).where(Card.id == dead).execute()
    proxied.cardctl("card", "unbind", card_id)
    moves.apply(card_id, reference)
    assert (Client.get().card_id, Client.get().hardware, Client.get().ip) == (card_id, *NEW)
    proxied.cardctl("card", "unbind", card_id)
    assert code_of(proxied, dead, NEW) == "OK"
    Card.update(activated_at=START - timedelta(days=30), expires_at=START).where(Card.id == dead).execute()
    known = Client.get().id
    moves.apply(card_id, reference)
    assert [(client.id, client.card_id) for client in Client.select()] == [(known, card_id)], "of its dead card"
    assert code_of(proxied, card_id, NEW) == "OK"


def test_a_move_waits_for_writers_and_sees_their_work(proxied: Service, moves: CardMoves, database: Database) -> None:
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


def test_issued_cards_are_printed_as_json_and_an_export_is_the_list_as_a_file(offline: Service) -> None:
    printed = offline.cardctl_json("card", "issue", "--validity=30d", "--count=3", "--batch=春季", "--note=n")
    assert [(c["validity_seconds"], c["batch"], c["note"]) for c in printed] == [(2_592_000, "春季", "n")] * 3
    assert {c["id"] for c in printed} == {row.id for row in Card.select()}
    assert Event.get().details == {"count": 3, "batch": "春季", "validity": "30d"}
    assert offline.cardctl_json("card", "issue", "--validity", "永久")[0]["validity_seconds"] is None
    exported = offline.cardctl("card", "export", "--batch", "春季").stdout
    assert exported == offline.cardctl("card", "list", "--batch", "春季", "--format", "csv").stdout
    assert {row["id"] for row in csv.DictReader(io.StringIO(exported))} == {c["id"] for c in printed}
    assert offline.cardctl("card", "export", "--format", "table", check=False).returncode == 2
