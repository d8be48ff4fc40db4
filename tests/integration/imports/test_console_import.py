"""Importing cards in the console, as Excel and WPS save them: a preview first, then all cards or none."""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import xlsxwriter  # type: ignore[import-untyped]

from app.console.imports.imports import MAX_BYTES
from app.domain.codes import EventKind
from app.domain.texts import MAX_TEXT
from app.services.shop.idempotency import CLAIM_SECONDS
from app.storage.database import Database
from app.storage.models import Card, Client, Event
from tests.support.console.console import PASSWORD, Browser, Seen, add_operator
from tests.support.services.service import Service, wait_for

IMPORT = "/admin/cards/import"
IDS = [f"{letter}123456789ABCDEFGHJKMNPQRSTVWXYZ" for letter in "012345"]
TWO = f"卡密,有效期,批次,店名\n{IDS[0]},月卡,旧批,甲\n{IDS[1]},永久,,乙\n"


def send(browser: Browser, page: Seen, step: str, content: bytes, name: str = "旧卡.csv", **typed: str) -> Seen:
    """Send a file, with the password where the form asks for one: for a long file, and for a workbook."""
    own = {"own_password": PASSWORD} if "own_password" in dict(page.form(IMPORT).fields) else {}
    return browser.submit(page, IMPORT, own | typed, button=("step", step), files={"file": (name, content)})


def previewed(browser: Browser, content: bytes) -> Seen:
    return send(browser, browser.get(IMPORT), "preview", content)


def test_another_file_than_the_previewed_one_is_not_imported(owner: Browser) -> None:
    preview = previewed(owner, TWO.encode())
    refused = send(owner, preview, "import", TWO.replace("月卡", "年卡").encode())
    assert (refused.status, "与核对时不同" in refused.words) == (400, True)
    assert owner.post(IMPORT, {"step": "import"}, {"file": ("a.csv", TWO.encode())}).status == 400
    assert Card.select().count() == 0


def test_unused_cards_of_a_file_without_validities_get_the_one_that_was_checked(owner: Browser) -> None:
    file = {"file": ("a.csv", f"卡密,到期时间,状态\n{IDS[0]},,未使用\n".encode())}

    def send(page: Seen, step: str, validity: str) -> Seen:
        return owner.submit(page, IMPORT, {"validity": validity}, button=("step", step), files=file)

    assert "请选择未使用卡密的有效期" in send(owner.get(IMPORT), "preview", "").words
    assert "不是时长" in send(owner.get(IMPORT), "preview", "soon").words
    preview = send(owner.get(IMPORT), "preview", "季卡")
    assert "季卡 × 1" in preview.words
    assert send(preview, "import", "年卡").status == 400
    assert "已导入 1 张" in send(preview, "import", "季卡").words
    assert Card.get().validity.days == 90


def test_a_file_of_five_megabytes_is_imported_in_the_order_of_ids_so_that_two_imports_do_not_deadlock(
    owner: Browser, database: Database
) -> None:
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
    assert len(stored) == len(rows)
    assert stored == sorted(stored)
    (event,) = Event.select()
    assert (event.details["count"], len(event.details["batches"])) == (len(rows), 100)


def test_an_import_sent_again_while_it_runs_leads_to_its_result(service: Service, database: Database) -> None:
    add_operator("olga")
    owner = Browser(service).walk_in("olga")
    preview = previewed(owner, TWO.encode())
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"

    def waits(count: int) -> bool:
        return database.execute_sql(waiting).fetchone()[0] >= count

    # As many as one of the two processes lets one session have under way.
    with ThreadPoolExecutor(8) as pool, database.atomic() as other:
        Card.insert(id=IDS[0], created_at="2026-01-01T00:00:00Z").execute()  # the import waits for what becomes of it
        answers = [pool.submit(send, owner, preview, "import", TWO.encode())]
        wait_for(lambda: waits(1))
        began = time.monotonic()
        answers += [pool.submit(send, owner, preview, "import", TWO.encode()) for _ in range(7)]
        wait_for(lambda: waits(2))
        other.rollback()
        answers[0].result()
        took_seconds = time.monotonic() - began
    seen = [answer.result() for answer in answers]
    # Only a machine that takes long to send one of them may see its wait end.
    assert {each.status for each in seen} <= ({200, 503} if took_seconds >= CLAIM_SECONDS else {200})
    assert len({each.path for each in seen if each.status == 200}) == 1
    assert Event.select().where(Event.kind == EventKind.IMPORTED).count() == 1


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
