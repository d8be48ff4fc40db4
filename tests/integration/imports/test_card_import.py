"""Importing cards sold before, by `cardctl card import` and in the console: all or none of a file, each fault named."""
# Owns imports-cards.

import io
import json
import os
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import xlsxwriter  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from app.console.imports import MAX_BYTES
from app.domain.cards.cards import ID_RANDOM_BYTES, id_from_random
from app.domain.imports import Chosen
from app.domain.texts import MAX_TEXT, RefusedError
from app.services.cards.card_lists import CardLists
from app.services.cards.exports import CARD_COLUMNS, card_documents, csv_lines
from app.services.cards.issuing import Issuing
from app.services.imports import imports
from app.storage import cards
from app.storage.card_lists import CardFilter
from app.storage.cards import NewBinding, NewCard
from app.storage.database import Database
from app.storage.models import Card, Client, Event
from tests.support.concurrency import at_once
from tests.support.console.console import PASSWORD, Browser, Seen
from tests.support.services.service import Service

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
ZONE = ZoneInfo("Asia/Shanghai")
ONE, TWO = "0123456789ABCDEFGHJKMNPQRSTVWXYZ", "ZYXWVTSRQPNMKJHGFEDCBA9876543210"
THREE = "3" * 32


def read(text: str, chosen: Chosen | None = None) -> imports.Reading:
    return imports.read(text.encode(), NOW, ZONE, chosen)


def faults(text: str) -> list[tuple[int, str | None]]:
    return [(fault.line, fault.column) for fault in read(text).faults]


def test_columns_have_any_order_and_chinese_names_and_ids_may_be_grouped(database: Database) -> None:
    seconds = read(f"id,validity_seconds\n{ONE},30\n{TWO},\n")
    assert [card.validity for card in seconds.cards] == [timedelta(seconds=30), None]
    grouped = "-".join(ONE[i : i + 4] for i in range(0, 32, 4)).lower()
    named = read(f"备注,有效期,卡密 ID,批次\n给老王,月卡,{grouped},春季\n")
    assert (named.cards, named.faults) == ([NewCard(ONE, timedelta(days=30), "春季", "给老王")], [])
    (spent,) = read(f"id,validity_seconds,status\n{ONE},30,spent\n").cards
    assert spent.frozen_at is not None, "as an export has it"


def test_a_wrong_cell_header_or_line_is_named_by_its_line_and_column(database: Database) -> None:
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
        assert [each for each in faults(f"{header}\n{TWO},30d\n{row}\n") if each[0] != 2] == [(3, column)], row
    assert faults("") == [(1, None)]
    columns = {"id;validity": None, "id,validity,validity_seconds": "validity", "id,天数,days": "天数"}
    for header, column in {**columns, "卡号,卡密,validity": "卡号"}.items():
        assert faults(f"{header}\n{ONE},30d,\n") == [(1, column)], header
    assert faults(f'id,validity,x\n\n{ONE},30d,"a\nb\nc"\n\nwrong,30d,\n') == [(7, "id")], "as in the file"
    assert faults(f'id,validity\n{ONE},30d\n"{TWO},30d\n') == [(3, None)], "where an open quote begins"


FOREIGN = """卡密,过期时间,机器码,使用状态
OLD-0001,2026-04-03 20:00,h1,已使用
OLD-0002,永久,h2,已使用
OLD-0003,9999-12-31,h3,
OLD-0004,,,未使用
"""


def test_a_foreign_file_without_validities_is_read(database: Database) -> None:
    reading = read(FOREIGN, Chosen(timedelta(days=30)))
    assert reading.faults == []
    assert [card.validity for card in reading.cards] == [timedelta(days=33), None, None, timedelta(days=30)]
    assert [card.expires_at for card in reading.cards] == [NOW.replace(microsecond=0) + timedelta(days=33), *[None] * 3]
    assert [each.zh[:3] for each in imports.warnings(reading)] == ["4 张", "3 张"], "short keys, no activations"


def test_faults_name_columns_as_the_file_does_and_none_that_it_lacks(database: Database) -> None:
    reading = read(f"{FOREIGN}OLD-0005,2026-04-01,,未使用\n")
    assert [(fault.line, fault.column) for fault in reading.faults] == [(5, None), (6, "使用状态")]
    assert "--validity" in reading.faults[0].text.en
    assert reading.faults[1].text.zh.startswith("状态是未使用，却有")
    chosen = read(f"卡密,类型\n{ONE},月卡\n", Chosen(None))
    assert [fault.column for fault in chosen.faults] == ["类型"]
    batch = read(f"卡密,类型,分组\n{ONE},月卡,{'n' * 201}\n")
    assert batch.faults[0].text.zh.startswith("分组 必须是")


def test_the_first_faults_are_kept_and_all_are_counted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    list(cards.insert(database, [NewCard(ONE, None, None, None), NewCard(TWO, None, None, None)], NOW))
    first, later = f"{ONE},30d\n", f"{TWO},soon\n"
    reading = read("id,validity\n" + first + "x,soon\n" * 2_000 + later + "id,validity,x\n" + '"')
    named = [(fault.line, fault.column) for fault in reading.faults]
    assert named == [(2, "id"), *[(3 + n // 2, ("id", "validity")[n % 2]) for n in range(imports.MAX_FAULTS - 1)]]
    assert reading.fault_count == 1 + 2 * 2_000 + 2 + 1 + 1
    header = read("id,validity" + ",id" * 2_000)
    assert (len(header.faults), header.fault_count) == (1, 1)
    monkeypatch.setattr(imports, "MAX_CARDS", 1)
    for second in (THREE, "wrong"):
        with pytest.raises(RefusedError, match="at most 1 cards"):
            read(f"id,validity\n{THREE},30d\n{second},30d\n")


def test_cards_that_are_repeated_or_already_exist_are_reported(database: Database) -> None:
    list(cards.insert(database, [NewCard(TWO, None, None, None)], NOW))
    key = "老王-VIP_0001+x"
    reading = read(f"id,validity\n{ONE},30d\n{TWO},30d\n{ONE.lower()},7d\n{key},7d\n卡密\uff1a{key},7d\n")
    assert [(fault.line, fault.column) for fault in reading.faults] == [(3, "id"), (4, "id"), (6, "id")]
    assert "第 2 行" in reading.faults[1].text.zh


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
    done = at_once([lambda: offline.run_cardctl("card", "import", "-", text=text, check=False)] * 2)
    assert sorted(one.returncode for one in done) == [0, 1], [one.stderr for one in done]
    assert (Card.select().count(), Event.select().count()) == (2_000, 1)


IMPORT = "/admin/cards/import"
IDS = [f"{letter}123456789ABCDEFGHJKMNPQRSTVWXYZ" for letter in "012345"]
TWO_CARDS = f"卡密,有效期,批次,店名\n{IDS[0]},月卡,旧批,甲\n{IDS[1]},永久,,乙\n"


def send(browser: Browser, page: Seen, step: str, content: bytes, name: str = "旧卡.csv", **typed: str) -> Seen:
    """Send a file, with the password where the form asks for one: for a long file, and for a workbook."""
    own = {"own_password": PASSWORD} if "own_password" in dict(page.form(IMPORT).fields) else {}
    return browser.submit(page, IMPORT, own | typed, button=("step", step), files={"file": (name, content)})


def previewed(browser: Browser, content: bytes, name: str = "旧卡.csv") -> Seen:
    return send(browser, browser.get(IMPORT), "preview", content, name)


def test_another_file_than_the_previewed_one_is_not_imported(owner: Browser) -> None:
    preview = previewed(owner, TWO_CARDS.encode())
    refused = send(owner, preview, "import", TWO_CARDS.replace("月卡", "年卡").encode())
    assert (refused.status, "与核对时不同" in refused.words) == (400, True)
    assert owner.post(IMPORT, {"step": "import"}, {"file": ("a.csv", TWO_CARDS.encode())}).status == 400
    assert Card.select().count() == 0


def test_unused_cards_of_a_file_without_validities_get_the_one_that_was_checked(owner: Browser) -> None:
    content = f"卡密,到期时间,状态\n{IDS[0]},,未使用\n".encode()
    for validity, said in (("", "请选择未使用卡密的有效期"), ("soon", "不是时长"), ("季卡", "季卡 × 1")):
        preview = send(owner, owner.get(IMPORT), "preview", content, validity=validity)
        assert said in preview.words, validity
    assert send(owner, preview, "import", content, validity="年卡").status == 400
    assert "已导入 1 张" in send(owner, preview, "import", content, validity="季卡").words
    assert Card.get().validity.days == 90


def test_a_file_of_five_megabytes_is_imported_in_the_order_of_ids(owner: Browser, database: Database) -> None:
    database.execute_sql("TRUNCATE card CASCADE")  # space that deleted rows left is used in any order
    note = "n" * MAX_TEXT
    rows = [f"{number:032d},30d,b{number % 300},{note}" for number in reversed(range(MAX_BYTES // 250))]
    content = "\n".join(["id,validity,batch,note", *rows]).encode()
    assert MAX_BYTES * 0.9 < len(content) < MAX_BYTES
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(MAX_BYTES + 100_000)}
    assert owner.send("POST", IMPORT, b"", headers).status == 413, "a larger one is refused before it is read"
    preview = previewed(owner, content)
    assert f"可以导入 {len(rows):,} 张" in preview.words
    done = send(owner, preview, "import", content)
    assert f"已导入 {len(rows):,} 张" in done.words
    stored = [row[0] for row in database.execute_sql("SELECT id FROM card ORDER BY ctid").fetchall()]
    assert stored == sorted(stored), "so that two imports do not wait for each other"
    (event,) = Event.select()
    assert (len(stored), event.details["count"], len(event.details["batches"])) == (len(rows), len(rows), 100)


HEADER = ["卡号", "状态", "类型/时长", "到期时间", "机器码", "登录IP", "备注", "价格"]
GOOD = [
    ["VIP-2024-8K3M-77QX-1", "已使用", "年卡", "2099/3/1 8:00", "BFEBFBFF000906E9", "203.0.113.7 [上海市]", "", "99"],
    ["VIP-2024-8K3M-77QX-2", "未使用", "30天", "", "", "", "", "19"],
    ["VIP-2024-8K3M-77QX-3", "封禁", "永久", "", "", "", "退款", "299"],
    ["VIP-2024-8K3M-77QX-4", "正常", "永久卡", "9999-12-31 00:00:00", "BFEBFBFF000906E4", "", "", "299"],
]


def as_csv(rows: list[list[str]]) -> bytes:
    """As WPS and a Chinese Excel save it: GBK, CRLF, and commas after the last cell."""
    return "".join(",".join([*row, "", ""]) + "\r\n" for row in [HEADER, *rows]).encode("gbk")


def as_xlsx(rows: list[list[str]]) -> bytes:
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as book:
        sheet, minute = book.add_worksheet("卡密"), book.add_format({"num_format": "yyyy/m/d h:mm"})
        sheet.write_row(0, 0, HEADER)
        for line, row in enumerate(rows, 1):
            sheet.write_row(line, 0, row)
            if row[3].startswith("2099"):
                sheet.write_datetime(line, 3, datetime(2099, 3, 1, 8), minute)  # noqa: DTZ001  # as spreadsheets do
    return content.getvalue()


def test_an_old_systems_file_is_understood_shown_and_imported(owner: Browser) -> None:
    assert "GB18030" in previewed(owner, as_csv(GOOD)).words
    content = as_xlsx(GOOD)
    preview = send(owner, owner.get(IMPORT), "preview", content, "旧卡.xlsx")
    assert Card.select().count() == 0
    for text in (
        *("可以导入 4 张", "XLSX", "忽略的列 价格", "登录IP → 绑定设备的 IP", "BFEBFBFF000906E9 203.0.113.7"),
        *("其中已绑定设备 2", "其中已冻结 1", "2 张使用中的卡密没有激活时间", "2099-03-01 08:00"),
    ):
        assert text in preview.words, text
    assert "own_password" in dict(preview.form(IMPORT).fields), "a workbook always takes the password"
    refused = send(owner, preview, "import", content, "旧卡.xlsx", own_password="wrong")
    assert (refused.status, Card.select().count()) == (400, 0)
    done = send(owner, preview, "import", content, "旧卡.xlsx")
    assert "已导入 4 张" in done.words
    found = {card.imported_key: card for card in Card.select()}
    assert set(found) == {row[0] for row in GOOD}
    assert found[GOOD[2][0]].frozen_at is not None
    assert found[GOOD[3][0]].validity is None
    bound = {client.hardware: client.ip for client in Client.select()}
    assert bound == {"BFEBFBFF000906E9": "203.0.113.7", "BFEBFBFF000906E4": ""}
    (event,) = Event.select().where(Event.kind == "imported")
    assert (event.details["count"], event.details["bound"]) == (4, 2)


def test_odd_files_are_refused_in_words(owner: Browser) -> None:
    assert "请选择一个 CSV 或 XLSX 文件" in owner.post(IMPORT, {"step": "preview"}).words
    for content, said in [
        (as_xlsx(GOOD)[:-300], "XLSX 文件无法读取"),
        ("卡号,类型\r\n<script>alert(1)</script>x,<img src=x>\r\n".encode(), "&lt;img src=x&gt;"),
    ]:
        preview = send(owner, owner.get(IMPORT), "preview", content, "a.xlsx")
        assert (said in preview.text, "<script>alert" in preview.text) == (True, False)
    for content in (b"", b"\xff\xfe\xfa\xfb\xff", b"\0", b"id,validity\n", b'id,validity\n"', b"\r\n" * 100):
        assert "alert" in send(owner, owner.get(IMPORT), "preview", content, "a.csv").text, content
        assert owner.post(IMPORT, {"step": "import"}, {"file": ("a.csv", content)}).status == 400, content
    assert Card.select().count() == 0
