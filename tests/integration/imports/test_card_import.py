"""Cards sold before: imported by `cardctl card import` and in the console, all or none of a file, each fault named; and
their keys and machines, which they keep.
"""
# Owns imports-cards, imports-keys.

import io
import json
import os
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
import xlsxwriter  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from app.console.imports import MAX_BYTES
from app.domain.cards.cards import ID_RANDOM_BYTES, card_id_of, id_from_random
from app.domain.codes import Code
from app.domain.imports import Chosen
from app.domain.texts import MAX_TEXT, RefusedError
from app.services.cards.card_lists import CardLists
from app.services.cards.exports import CARD_COLUMNS, card_documents, csv_lines
from app.services.cards.issuing import Issuing
from app.services.imports import imports
from app.services.licence.licence import Verification
from app.storage import cards
from app.storage.card_lists import CardFilter
from app.storage.cards import NewBinding, NewCard
from app.storage.database import Database
from app.storage.models import IMPORT, Card, Client, DailyCount, Event
from tests.conftest import START as NOW
from tests.support.concurrency import at_once
from tests.support.console.console import PASSWORD, Browser, Seen
from tests.support.licence.bound_cards import ask, kinds
from tests.support.services.service import Service, question

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
    assert [each.zh[:3] for each in imports.warnings(reading)] == ["4 张"], "short keys"


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
    cards.insert(database, [NewCard(ONE, None, None, None), NewCard(TWO, None, None, None)], NOW)
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
    cards.insert(database, [NewCard(TWO, None, None, None)], NOW)
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
        cards.insert(database, given_cards, NOW)
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
    text = f"卡密,截止时间,颜色\n{THREE},,红\n"
    dry = offline.cardctl_json("card", "import", "-", "--dry-run", "--validity", "30天", text=text)
    assert (dry["imported"], dry["not_read"]) == (False, ["颜色"])
    assert dry["columns"] == {"卡密": "id", "截止时间": "expires_at"}
    assert "截止时间 → expires_at" in offline.cardctl("card", "import", "-", "--validity", "30天", text=text).stdout
    assert Card.get(Card.id == THREE).validity == timedelta(days=30)


def test_one_of_two_imports_of_a_file_at_once_succeeds(offline: Service) -> None:
    text = "id,validity\n" + "".join(f"{id_from_random(os.urandom(20))},30d\n" for _ in range(2_000))
    done = at_once([lambda: offline.run_cardctl("card", "import", "-", text=text, check=False)] * 2)
    assert sorted(one.returncode for one in done) == [0, 1], [one.stderr for one in done]
    assert (Card.select().count(), Event.select().count()) == (2_000, 1)


PAGE = "/admin/cards/import"
IDS = [f"{letter}123456789ABCDEFGHJKMNPQRSTVWXYZ" for letter in "012345"]
TWO_CARDS = f"卡密,有效期,批次,店名\n{IDS[0]},月卡,旧批,甲\n{IDS[1]},永久,,乙\n"


def send(browser: Browser, page: Seen, step: str, content: bytes, name: str = "旧卡.csv", **typed: str) -> Seen:
    """Send a file, with the password where the form asks for one: for a long file, and for a workbook."""
    own = {"own_password": PASSWORD} if "own_password" in dict(page.form(PAGE).fields) else {}
    return browser.submit(page, PAGE, own | typed, button=("step", step), files={"file": (name, content)})


def previewed(browser: Browser, content: bytes, name: str = "旧卡.csv") -> Seen:
    return send(browser, browser.get(PAGE), "preview", content, name)


def test_another_file_than_the_previewed_one_is_not_imported(owner: Browser) -> None:
    preview = previewed(owner, TWO_CARDS.encode())
    refused = send(owner, preview, "import", TWO_CARDS.replace("月卡", "年卡").encode())
    assert (refused.status, "与核对时不同" in refused.words) == (400, True)
    assert owner.post(PAGE, {"step": "import"}, {"file": ("a.csv", TWO_CARDS.encode())}).status == 400
    assert Card.select().count() == 0


def test_unused_cards_of_a_file_without_validities_get_the_one_that_was_checked(owner: Browser) -> None:
    content = f"卡密,到期时间,状态\n{IDS[0]},,未使用\n".encode()
    for validity, said in (("", "请选择未使用卡密的有效期"), ("soon", "不是时长"), ("季卡", "季卡 × 1")):
        preview = send(owner, owner.get(PAGE), "preview", content, validity=validity)
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
    assert owner.send("POST", PAGE, b"", headers).status == 413, "a larger one is refused before it is read"
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
    preview = send(owner, owner.get(PAGE), "preview", content, "旧卡.xlsx")
    assert Card.select().count() == 0
    for text in (
        *("可以导入 4 张", "XLSX", "忽略的列 价格", "登录IP → 绑定设备的 IP", "BFEBFBFF000906E9 203.0.113.7"),
        *("其中已绑定设备 2", "其中已冻结 1", "2099-03-01 08:00"),
    ):
        assert text in preview.words, text
    assert "own_password" in dict(preview.form(PAGE).fields), "a workbook always takes the password"
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
    assert "请选择一个 CSV 或 XLSX 文件" in owner.post(PAGE, {"step": "preview"}).words
    assert "XLSX 文件无法读取" in send(owner, owner.get(PAGE), "preview", as_xlsx(GOOD)[:-300], "a.xlsx").text
    for content in (b"", b"\xff\xfe\xfa\xfb\xff", b"\0", b"id,validity\n", b'id,validity\n"', b"\r\n" * 100):
        assert "alert" in send(owner, owner.get(PAGE), "preview", content, "a.csv").text, content
        assert owner.post(PAGE, {"step": "import"}, {"file": ("a.csv", content)}).status == 400, content
    assert Card.select().count() == 0


KEY, OTHER = "老王-VIP_0001+x", "AAAA-BBBB-CCCC-1"
ID = card_id_of(KEY)


@pytest.fixture
def imported(offline: Service) -> Service:
    """A service with two cards of another system."""
    offline.cardctl("card", "import", "-", text=f"卡号,有效期,备注\n{KEY},月卡,甲\n{OTHER},永久,乙\n")
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
    message = f"VIP000001，{KEY}，VIP000003"  # one search in it would try fifty guesses
    for typed in (message, " ".join([ID, card_id_of(OTHER), card_id_of("no such key")]), ID, ID.lower()):
        page = seller.get(f"/admin/cards?q={quote(typed)}")
        assert ("没有符合条件的记录" in page.words, f"id={quote(KEY)}" in page.text) == (True, False), typed
    imported.cardctl("card", "freeze", KEY)
    assert KEY not in seller.get(f"/admin/journal?card={ID}").text
    assert seller.get(f"/admin/card?id={ID}").status == 404
    page = seller.get(f"/admin/cards?q={quote(KEY)}")
    assert page.text.count(f"/admin/card?id={quote(KEY)}") == 1, "it links to the card by its key"


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


def load(text: str, database: Database, issuing: Issuing) -> None:
    reading = read(text)
    assert [str(fault.text) for fault in reading.faults] == []
    issuing.import_cards(reading.cards)


def test_the_bound_machine_goes_on_as_before(database: Database, issuing: Issuing, verification: Verification) -> None:
    load(BOUND, database, issuing)
    lines = CardLists(lambda: NOW)
    assert lines.get("OLD-0001").used_at is None
    assert ask(verification, "OLD-0001", "h1", "198.51.100.1", function=IMPORT).code is Code.OK
    assert lines.get("OLD-0001").used_at == NOW
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
