"""Cards imported from another system keep their keys, and the machines that they are bound to."""
# Owns imports-keys.

from datetime import datetime
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest

from app.domain.cards.cards import card_id_of
from app.domain.codes import Code
from app.services.cards.card_lists import CardLists
from app.services.cards.issuing import Issuing
from app.services.imports import imports
from app.services.imports.imports import Reading
from app.services.licence.licence import Verification
from app.storage.database import Database
from app.storage.models import IMPORT, Card, Client, DailyCount, Event
from tests.conftest import START
from tests.support.console.console import Browser
from tests.support.licence.bound_cards import ask, kinds
from tests.support.services.service import Service, question

KEY, OTHER = "老王-VIP_0001+x", "AAAA-BBBB-CCCC-1"
ID = card_id_of(KEY)
FILE = f"卡号,有效期,备注\n{KEY},月卡,甲\n{OTHER},永久,乙\n"


@pytest.fixture
def imported(offline: Service) -> Service:
    """A service with two cards of another system."""
    offline.cardctl("card", "import", "-", text=FILE)
    return offline


def test_an_imported_key_activates_its_card_and_is_then_touched(verification: Verification, owner: Browser) -> None:
    for refused in (KEY, f" {KEY}"):
        ask(verification, refused)
    assert KEY in owner.get(f"/admin/card?id={quote(KEY)}").words, "it is found before its import and afterwards"
    Card.insert(id=ID, imported_key=KEY, created_at="2026-01-01T00:00:00Z").execute()
    assert ask(verification, f" {KEY}\t").code is Code.OK
    for same in (KEY, ID, f"\ufeff卡密\uff1a“{KEY}”"):
        assert ask(verification, same).code is Code.OK
    assert Client.get().card_id == ID
    about_cards = Event.select(Event.kind, Event.card_id).where(Event.card_id.is_null(is_null=False))
    told = [("rejected", KEY), ("rejected", f" {KEY}"), ("activated", ID)]
    assert list(about_cards.order_by(Event.id).tuples()) == told
    assert "CARD_NOT_FOUND" in owner.get(f"/admin/journal?card={quote(KEY)}").text
    for other in (KEY.upper(), KEY[:-1], KEY.replace("-", "")):
        assert ask(verification, other).code is Code.CARD_NOT_FOUND


def test_who_tries_ids_of_guessed_keys_finds_no_imported_card(verification: Verification) -> None:
    Card.insert(id=ID, imported_key=KEY, created_at="2026-01-01T00:00:00Z").execute()
    for number in range(20):
        assert ask(verification, card_id_of(f"guess {number}")).code is Code.CARD_NOT_FOUND
    assert ask(verification, ID).code is Code.CARD_NOT_FOUND
    assert (Card.get().is_activated, Client.select().count()) == (False, 0)
    assert ask(verification, ID, address="203.0.113.9").code is Code.OK
    assert ask(verification, ID, address="203.0.113.9").code is Code.OK


def test_commands_take_show_and_export_imported_keys(imported: Service) -> None:
    assert imported.cardctl_json("card", "show", KEY)["card"]["id"] == ID
    imported.cardctl("card", "freeze", f" {KEY} ", OTHER)
    listed = imported.cardctl_json("card", "list", "--search", KEY[:5])
    assert [(row["imported_key"], row["status"]) for row in listed] == [(KEY, "frozen")]
    (event,) = imported.cardctl_json("events", "--card", KEY)
    assert (event["kind"], event["card_id"]) == ("frozen", ID)
    assert KEY[:-1] in imported.refusal("card", "freeze", KEY[:-1])
    exported = imported.cardctl("card", "list", "--format", "csv").stdout
    Card.delete().execute()
    imported.cardctl("card", "import", "-", text=exported)
    assert {row.id: row.imported_key for row in Card.select()} == {ID: KEY, card_id_of(OTHER): OTHER}


def test_a_seller_finds_an_imported_card_by_its_whole_key_alone(imported: Service, seller: Browser) -> None:
    assert "没有符合条件的记录" in seller.get("/admin/cards").words
    assert KEY not in seller.get(f"/admin/cards?q={quote(KEY[:-1])}").words.replace(KEY[:-1], "", 1)
    assert f">{KEY}</h1>" in seller.get(f"/admin/card?id={quote(KEY)}").text
    # One search in a message would try fifty guesses.
    message = seller.get(f"/admin/cards?q={quote(f'VIP000001，{KEY}，VIP000003')}")
    assert (message.status, "没有符合条件的记录" in message.words) == (200, True)
    digests = [ID, card_id_of(OTHER), card_id_of("no such key")]
    for typed in (" ".join(digests), ID, ID.lower()):
        page = seller.get(f"/admin/cards?q={quote(typed)}")
        assert "没有符合条件的记录" in page.words
        assert not {KEY, OTHER} & set(page.words.split())
    imported.cardctl("card", "freeze", KEY)
    assert KEY not in seller.get(f"/admin/journal?card={ID}").text
    assert seller.get(f"/admin/card?id={ID}").status == 404
    page = seller.get(f"/admin/cards?q={quote(KEY)}")
    assert page.text.count(f"/admin/card?id={quote(KEY)}") == 1, "it links to the card by its key"


def test_a_dry_run_says_how_each_column_was_understood(offline: Service) -> None:
    text = f"卡号,套餐,截止时间,颜色\n{KEY},年卡,2030/1/2,红\n"
    assert "截止时间 → expires_at" in offline.cardctl("card", "import", "-", "--dry-run", text=text).stdout
    document = offline.cardctl_json("card", "import", "-", "--dry-run", text=text)
    assert (document["imported"], document["not_read"]) == (False, ["颜色"])
    assert document["columns"] == {"卡号": "id", "套餐": "validity", "截止时间": "expires_at"}
    assert Card.select().count() == 0


def test_who_guesses_gets_no_verdict_and_who_uses_a_card_does(imported: Service, service: Service) -> None:
    service.cardctl("card", "import", "-", text="卡号,有效期\nVIP2024000001,永久\nVIP2024000002,永久\n")
    assert service.verify(question("VIP2024000002")).status == 200
    for number in range(20):
        answer = service.verify(question(f"VIP20240001{number:02}"))
        assert (answer.status, answer.claims["code"]) == (404, "CARD_NOT_FOUND")
    for text in ("VIP2024000120", "VIP2024000001"):
        refused = service.verify(question(text))
        assert (refused.status, refused.body["code"]) == (429, "TOO_MANY_REQUESTS")
        assert (refused.headers["retry-after"], "token" in refused.body) == ("60", False)
    assert service.verify(question("0" * 32)).claims["code"] == "CARD_NOT_FOUND"
    assert service.verify(question("VIP2024000002")).status == 200, "the machine that the card is bound to"


BOUND = "卡号,类型,到期时间,机器码,IP\nOLD-0001,月卡,2026-03-20,h1,198.51.100.1\nOLD-0002,永久,,h2,\n"
MACHINES = "卡号,类型,到期时间,机器码\n"


def read(text: str) -> Reading:
    return imports.read(text.encode(), START, ZoneInfo("Asia/Shanghai"))


def load(text: str, database: Database, issuing: Issuing) -> None:
    reading = read(text)
    assert [str(fault.text) for fault in reading.faults] == []
    issuing.import_cards(reading.cards)


def test_the_bound_machine_goes_on_as_before(database: Database, issuing: Issuing, verification: Verification) -> None:
    load(BOUND, database, issuing)
    lines = CardLists(lambda: START)
    assert lines.get("OLD-0001").used_at is None
    assert ask(verification, "OLD-0001", "h1", "198.51.100.1", function=IMPORT).code is Code.OK
    assert lines.get("OLD-0001").used_at == START
    assert ask(verification, "OLD-0001", "h1", "203.0.113.9").code is Code.OK
    assert kinds() == ["imported", "environment_changed"]
    card = Card.get(Card.imported_key == "OLD-0001")
    assert (card.is_activated, card.expires_at) == (True, datetime(2026, 3, 21, tzinfo=ZoneInfo("Asia/Shanghai")))
    assert ask(verification, "OLD-0001", "other", "203.0.113.10").code is Code.CLIENT_MISMATCH


def test_a_machine_without_an_address_is_known_by_its_hardware_alone(
    database: Database, issuing: Issuing, verification: Verification, offline: Service
) -> None:
    load(BOUND, database, issuing)
    client = Client.get(Client.hardware == "h2")
    assert (client.ip, client.function) == ("", IMPORT)
    listed = offline.cardctl_json("card", "list")
    assert {row["hardware"]: row["ip"] for row in listed} == {"h1": "198.51.100.1", "h2": None}
    assert ask(verification, "OLD-0002", "stranger", "203.0.113.10").code is Code.CLIENT_MISMATCH
    assert Event.get(Event.code == Code.CLIENT_MISMATCH).details["before"] == {"hardware": "h2", "ip": None}
    assert ask(verification, "OLD-0002", "h2", "203.0.113.11").code is Code.OK
    assert Client.get(Client.hardware == "h2").ip == "203.0.113.11"
    assert kinds() == ["imported", "rejected"], "the first address is no change of one"
    assert DailyCount.select().where(DailyCount.kind == "address_changed").count() == 0


def test_strange_hardware_is_kept_character_by_character(database: Database, issuing: Issuing) -> None:
    strange = ['a\tb\\N"c', " WD-WCC4N123    ", "一\n二", "\\.", "=1+1", "x" * 1024]
    cells = ['"' + text.replace('"', '""') + '"' for text in strange]
    load(MACHINES + "\n".join(f"OLD-{number:04},永久,,{cell}" for number, cell in enumerate(cells)), database, issuing)
    assert {client.hardware for client in Client.select()} == set(strange)


def test_of_several_cards_with_one_machine_the_live_one_keeps_it(database: Database, issuing: Issuing) -> None:
    text = MACHINES + "OLD-0001,月卡,2026-01-20,h1\nOLD-0002,月卡,2026-03-20,h1\nOLD-0003,月卡,2026-02-20,h1"
    two = read(f"{text}\nOLD-0004,永久,,h1\n")
    assert [(fault.line, fault.column) for fault in two.faults] == [(5, "机器码")]
    assert "第 3 行" in two.faults[0].text.zh
    load(text, database, issuing)
    (client,) = Client.select()
    assert client.card.imported_key == "OLD-0002"
    bound_here = read(f"{MACHINES}OLD-0005,永久,,h1\n")
    assert [(fault.line, fault.column) for fault in bound_here.faults] == [(2, "机器码")]
    assert client.card_id in bound_here.faults[0].text.zh


def test_a_cell_without_a_machine_leaves_the_card_to_its_first_start(database: Database) -> None:
    for cell in ["", "-", "无", "NULL", "0", "n/a"]:
        reading = read(f"{MACHINES}OLD-0001,月卡,,{cell}\n")
        assert (reading.faults, reading.cards[0].binding, reading.cards[0].activated_at) == ([], None, None), cell
