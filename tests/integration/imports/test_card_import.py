"""Importing cards sold before: reading CSV, `cardctl card import`, and importing an export."""
# Owns imports-cards.

import json
import os
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.cards.cards import ID_RANDOM_BYTES, id_from_random
from app.domain.imports.imported_cards import Chosen
from app.domain.texts import RefusedError
from app.services.cards.card_lists import CardLists
from app.services.cards.exports import CARD_COLUMNS, card_documents, csv_lines
from app.services.cards.issuing import Issuing
from app.services.imports import imports
from app.storage import cards
from app.storage.card_lists import CardFilter
from app.storage.cards import NewBinding, NewCard
from app.storage.database import Database
from app.storage.models import Card, Event
from tests.support.concurrency import at_once
from tests.support.services.service import Service

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
ZONE = ZoneInfo("Asia/Shanghai")
ONE, TWO = "0123456789ABCDEFGHJKMNPQRSTVWXYZ", "ZYXWVTSRQPNMKJHGFEDCBA9876543210"
THREE = "3" * 32


def read(text: str, chosen: Chosen | None = None) -> imports.Reading:
    return imports.read(text.encode(), NOW, ZONE, chosen)


def faults(text: str, database: Database) -> list[tuple[int, str | None]]:
    return [(fault.line, fault.column) for fault in read(text).faults]


def test_columns_have_any_order_and_chinese_names_and_ids_may_be_grouped(database: Database) -> None:
    seconds = read(f"id,validity_seconds\n{ONE},30\n{TWO},\n")
    assert [card.validity for card in seconds.cards] == [timedelta(seconds=30), None]
    grouped = "-".join(ONE[i : i + 4] for i in range(0, 32, 4)).lower()
    named = read(f"备注,有效期,卡密 ID,批次\n给老王,月卡,{grouped},春季\n")
    assert (named.cards, named.faults) == ([NewCard(ONE, timedelta(days=30), "春季", "给老王")], [])


def test_a_spent_card_of_an_export_comes_in_frozen(database: Database) -> None:
    (card,) = read(f"id,validity_seconds,status\n{ONE},30,spent\n").cards
    assert card.frozen_at is not None


def test_a_wrong_cell_is_named_by_line_and_column(database: Database) -> None:
    for header, row, column in [
        ("id,validity", f"{ONE}{ONE}U,30d", "id"),
        ("id,validity,imported_key", f"{ONE},30d,OLD-KEY", "imported_key"),
        ("id,validity", f"{ONE},30", "validity"),
        ("id,validity_seconds", f"{ONE},-1", "validity_seconds"),
        ("id,validity", f"{ONE},30d,a,b", None),
        ("id,validity,batch", f"{ONE},30d,\u202eb", "batch"),
        ("id,validity,status", f"{ONE},30d,sold", "status"),
        ("id,validity,status", f"{ONE},30d,active", None),
        ("id,validity,activated_at", f"{ONE},36500d,9999-12-31T23:59:59-23:59", "activated_at"),
    ]:
        named = faults(f"{header}\n{TWO},30d\n{row}\n", database)
        assert [each for each in named if each[0] != 2] == [(3, column)], row


def test_a_wrong_header_is_reported_once(database: Database) -> None:
    for header, column in [
        ("", None),
        ("id;validity", None),
        ("id,validity,validity_seconds", "validity"),
        ("id,天数,days", "天数"),
        ("卡号,卡密,validity", "卡号"),
    ]:
        assert faults(f"{header}\n{ONE},30d,\n" if header else "", database) == [(1, column)], header


FOREIGN = (
    "卡密,过期时间,机器码,使用状态\n"
    "OLD-0001,2026-04-03 20:00,h1,已使用\nOLD-0002,永久,h2,已使用\nOLD-0003,9999-12-31,h3,\n"
)
UNUSED = "OLD-0004,,,未使用\n"


def test_a_foreign_file_without_validities_is_read(database: Database) -> None:
    reading = read(f"{FOREIGN}{UNUSED}", Chosen(timedelta(days=30)))
    assert reading.faults == []
    assert [card.validity for card in reading.cards] == [timedelta(days=33), None, None, timedelta(days=30)]
    assert [card.expires_at for card in reading.cards] == [NOW.replace(microsecond=0) + timedelta(days=33), *[None] * 3]
    assert [each.zh[:3] for each in imports.warnings(reading)] == ["4 张", "3 张"], "short keys, no activations"


def test_faults_name_columns_as_the_file_does_and_none_that_it_lacks(database: Database) -> None:
    reading = read(f"{FOREIGN}{UNUSED}OLD-0005,2026-04-01,,未使用\n")
    assert [(fault.line, fault.column) for fault in reading.faults] == [(5, None), (6, "使用状态")]
    assert "--validity" in reading.faults[0].text.en
    assert reading.faults[1].text.zh.startswith("状态是未使用，却有")
    chosen = read(f"卡密,类型\n{ONE},月卡\n", Chosen(None))
    assert [fault.column for fault in chosen.faults] == ["类型"]
    batch = read(f"卡密,类型,分组\n{ONE},月卡,{'n' * 201}\n")
    assert batch.faults[0].text.zh.startswith("分组 必须是")


def test_lines_are_counted_as_in_the_file_even_where_a_cell_has_several(database: Database) -> None:
    assert faults(f'id,validity,x\n\n{ONE},30d,"a\nb\nc"\n\nwrong,30d,\n', database) == [(7, "id")]
    assert faults(f'id,validity\n{ONE},30d\n"{TWO},30d\n', database) == [(3, None)], "where an open quote begins"


def test_the_first_faults_of_a_file_are_kept_and_all_are_counted(database: Database) -> None:
    list(cards.insert(database, [NewCard(ONE, None, None, None), NewCard(TWO, None, None, None)], NOW))
    first, later = f"{ONE},30d\n", f"{TWO},soon\n"
    reading = read("id,validity\n" + first + "x,soon\n" * 2_000 + later + "id,validity,x\n" + '"')
    named = [(fault.line, fault.column) for fault in reading.faults]
    assert named == [(2, "id"), *[(3 + n // 2, ("id", "validity")[n % 2]) for n in range(imports.MAX_FAULTS - 1)]]
    assert reading.fault_count == 1 + 2 * 2_000 + 2 + 1 + 1
    header = read("id,validity" + ",id" * 2_000)
    assert (len(header.faults), header.fault_count) == (1, 1)


def test_cards_that_are_repeated_or_already_exist_are_reported(database: Database) -> None:
    list(cards.insert(database, [NewCard(TWO, None, None, None)], NOW))
    key = "老王-VIP_0001+x"
    reading = read(f"id,validity\n{ONE},30d\n{TWO},30d\n{ONE.lower()},7d\n{key},7d\n卡密\uff1a{key},7d\n")
    assert [(fault.line, fault.column) for fault in reading.faults] == [(3, "id"), (4, "id"), (6, "id")]
    assert "第 2 行" in reading.faults[1].text.zh


def test_too_many_cards_are_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "MAX_CARDS", 1)
    for second in (TWO, "wrong"):
        with pytest.raises(RefusedError, match="at most 1 cards"):
            read(f"id,validity\n{ONE},30d\n{second},30d\n")


def test_an_import_with_a_machine_that_was_bound_meanwhile_is_refused_whole(issuing: Issuing) -> None:
    bound = [
        NewCard(card_id, None, None, None, NOW, binding=NewBinding("M", "203.0.113.7", NOW)) for card_id in (ONE, TWO)
    ]
    issuing.import_cards(bound[1:])
    with pytest.raises(RefusedError, match="meanwhile"):
        issuing.import_cards(bound[:1])
    assert [row.id for row in Card.select()] == [TWO], "cards are copied before their machines"
    assert Event.select().count() == 1


whole_seconds = st.integers(1, 36_500 * 86_400)
printable = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.isprintable)
texts = st.none() | printable | st.builds("".join, st.lists(st.sampled_from("'=+-@,;\" x老"), min_size=1, max_size=5))
ids = st.binary(min_size=ID_RANDOM_BYTES, max_size=ID_RANDOM_BYTES).map(id_from_random)


@st.composite
def any_card(draw: st.DrawFn) -> NewCard:
    validity = draw(st.none() | whole_seconds.map(lambda seconds: timedelta(seconds=seconds)))
    start = NOW.replace(microsecond=0)
    activated_at = draw(st.none() | st.integers(0, 10**8).map(lambda ago: start - timedelta(seconds=ago)))
    expires_at = None
    if activated_at is not None and validity is not None:
        expires_at = activated_at + draw(whole_seconds.map(lambda seconds: timedelta(seconds=seconds)))
    frozen_at = draw(st.sampled_from([None, NOW]))
    return NewCard(draw(ids), validity, draw(texts), draw(texts), activated_at, expires_at, frozen_at)


@given(st.lists(any_card(), min_size=1, max_size=5, unique_by=lambda card: card.id))
def test_every_card_exported_as_csv_is_read_back_unchanged(database: Database, given_cards: list[NewCard]) -> None:
    with database.atomic() as transaction:
        list(cards.insert(database, given_cards, NOW))
        printed = "".join(csv_lines(card_documents(CardLists(lambda: NOW).every(CardFilter()), UTC), CARD_COLUMNS))
        transaction.rollback()
    reading = read(printed)
    assert reading.faults == []
    assert sorted(reading.cards, key=lambda card: card.id) == sorted(given_cards, key=lambda card: card.id)


def test_an_import_is_reported_and_journalled_once_or_refused_with_every_wrong_line(offline: Service) -> None:
    text = f"id,validity\n{ONE},30d\nx,30d\n{TWO},soon\n"
    for dry_run in ([], ["--dry-run"]):
        done = offline.cardctl("card", "import", "-", "--format", "json", *dry_run, text=text, check=False)
        assert (done.returncode, len(done.stderr.strip().splitlines())) == (1, 1)
        named = [(fault["line"], fault["column"]) for fault in json.loads(done.stdout)["faults"]]
        assert named == [(3, "id"), (4, "validity")]
    assert "第 3 行 id 列" in offline.cardctl("card", "import", "-", text=text, check=False).stdout
    assert Card.select().count() == Event.select().count() == 0
    done = offline.cardctl("card", "import", "-", text=f"id,validity,batch\n{ONE},30d,春季\n{TWO},7d,春季\n")
    assert "已导入 2 张" in done.stderr
    (event,) = Event.select()
    assert (event.kind, event.details) == ("imported", {"count": 2, "batches": ["春季"]})
    assert event.actor.startswith("cardctl:")
    offline.cardctl("card", "import", "-", "--validity", "30天", text=f"卡密\n{THREE}\n")
    assert Card.get(Card.id == THREE).validity == timedelta(days=30)


def test_one_of_two_imports_of_a_file_at_once_succeeds(offline: Service) -> None:
    text = "id,validity\n" + "".join(f"{id_from_random(os.urandom(20))},30d\n" for _ in range(2_000))
    done = at_once([lambda: offline.forked_cardctl("card", "import", "-", text=text, check=False)] * 2)
    assert sorted(one.returncode for one in done) == [0, 1], [one.stderr for one in done]
    assert (Card.select().count(), Event.select().count()) == (2_000, 1)
