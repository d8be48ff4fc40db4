"""Cards imported with the machine that they are bound to: the next start there is an ordinary verification."""

from datetime import datetime
from zoneinfo import ZoneInfo

from app.domain.codes import Code
from app.services import imports
from app.services.card_lists import CardLists
from app.services.imports import Reading
from app.services.issuing import Issuing
from app.services.verification import Verification
from app.storage.cards import IMPORT
from app.storage.database import Database
from app.storage.models import Card, Client, DailyCount, Event
from tests.conftest import START
from tests.support.asking import ask, kinds
from tests.support.service import Service

ZONE = ZoneInfo("Asia/Shanghai")
NOW = START


def read(text: str, database: Database) -> Reading:
    return imports.read(text.encode(), database, NOW, ZONE)


def load(text: str, database: Database, issuing: Issuing) -> Reading:
    reading = read(text, database)
    assert [str(fault.text) for fault in reading.faults] == []
    issuing.import_cards(reading.cards)
    return reading


FILE = "卡号,类型,到期时间,机器码,IP\nOLD-0001,月卡,2026-03-20,h1,198.51.100.1\nOLD-0002,永久,,h2,\n"


def test_the_bound_machine_goes_on_as_if_nothing_had_happened(
    database: Database, issuing: Issuing, verification: Verification
) -> None:
    load(FILE, database, issuing)
    assert ask(verification, "OLD-0001", "h1", "198.51.100.1").code is Code.OK
    assert ask(verification, "OLD-0001", "h1", "203.0.113.9").code is Code.OK
    assert kinds() == ["imported", "environment_changed"]
    card = Card.get(Card.imported_key == "OLD-0001")
    assert (card.is_activated, card.expires_at) == (True, datetime(2026, 3, 21, tzinfo=ZONE))
    assert ask(verification, "OLD-0001", "other", "203.0.113.10").code is Code.CLIENT_MISMATCH


def test_a_machine_without_an_address_is_known_by_its_hardware_alone(
    database: Database, issuing: Issuing, verification: Verification
) -> None:
    load(FILE, database, issuing)
    client = Client.get(Client.hardware == "h2")
    assert (client.ip, client.function) == ("", IMPORT)
    assert ask(verification, "OLD-0002", "stranger", "203.0.113.10").code is Code.CLIENT_MISMATCH
    mismatch = Event.get(Event.code == Code.CLIENT_MISMATCH)
    assert mismatch.details["before"] == {"hardware": "h2", "ip": None}
    assert ask(verification, "OLD-0002", "h2", "203.0.113.11").code is Code.OK
    assert Client.get(Client.hardware == "h2").ip == "203.0.113.11"
    assert kinds() == ["imported", "rejected"], "the first address is no change of one"
    assert DailyCount.select().where(DailyCount.kind == "address_changed").count() == 0


def test_an_imported_machine_has_no_last_use_before_it_asks(
    database: Database, issuing: Issuing, verification: Verification
) -> None:
    load(FILE, database, issuing)
    lines = CardLists(database, lambda: NOW)
    assert lines.get("OLD-0001").used_at is None
    ask(verification, "OLD-0001", "h1", function=IMPORT)
    assert lines.get("OLD-0001").used_at == NOW


def test_strange_hardware_is_kept_character_by_character(
    database: Database, issuing: Issuing, verification: Verification
) -> None:
    strange = ['a\tb\\N"c', " WD-WCC4N123    ", "一\n二", "\\.", "=1+1", "x" * 1024]
    cells = ['"' + text.replace('"', '""') + '"' for text in strange]
    lines = [f"OLD-{number:04},永久,{cell}" for number, cell in enumerate(cells)]
    load("卡号,有效期,机器码\n" + "\n".join(lines), database, issuing)
    assert {client.hardware for client in Client.select()} == set(strange)
    for number, hardware in enumerate(strange):
        assert ask(verification, f"OLD-{number:04}", hardware).code is Code.OK


def test_of_several_cards_with_one_machine_the_live_one_keeps_it_and_more_of_them_are_an_error(
    database: Database, issuing: Issuing
) -> None:
    lines = ["OLD-0001,月卡,2026-01-20,h1", "OLD-0002,月卡,2026-03-20,h1", "OLD-0003,月卡,2026-02-20,h1"]
    text = "卡号,类型,到期时间,机器码\n" + "\n".join(lines)
    two = read(f"{text}\nOLD-0004,永久,,h1\n", database)
    assert [(fault.line, fault.column) for fault in two.faults] == [(5, "机器码")]
    assert "第 3 行" in two.faults[0].text.zh
    load(text, database, issuing)
    (client,) = Client.select()
    assert client.card.imported_key == "OLD-0002"
    bound_here = read("卡号,类型,机器码\nOLD-0005,永久,h1\n", database)
    assert [(fault.line, fault.column) for fault in bound_here.faults] == [(2, "机器码")]
    assert client.card_id in bound_here.faults[0].text.zh


def test_a_cell_without_a_machine_leaves_the_card_to_its_first_start(database: Database) -> None:
    for cell in ["", "-", "无", "NULL", "0", "n/a"]:
        reading = read(f"卡号,类型,机器码,IP\nOLD-0001,月卡,{cell},198.51.100.1\n", database)
        assert (reading.faults, reading.cards[0].binding, reading.cards[0].activated_at) == ([], None, None), cell


def test_an_unknown_address_is_null_in_an_export(database: Database, issuing: Issuing, service: Service) -> None:
    load(FILE, database, issuing)
    listed = service.cardctl_json("card", "list")
    assert {row["hardware"]: row["ip"] for row in listed} == {"h1": "198.51.100.1", "h2": None}
