"""A vendor brings an old system's cards through the console, as Excel and WPS save them."""

import io
from datetime import datetime

import pytest
import xlsxwriter  # type: ignore[import-untyped]

from app.domain.cards import card_id_of
from app.storage.models import Card, Client, Event
from tests.support.console import PASSWORD, Browser, Seen
from tests.support.service import Service, question

IMPORT = "/admin/cards/import"
HEADER = ["卡号", "状态", "类型/时长", "到期时间", "机器码", "登录IP", "备注", "价格"]
GOOD = [
    [
        "VIP-2024-8K3M-77QX-1",
        "已使用",
        "年卡",
        "2099/3/1 8:00",
        "BFEBFBFF000906E9",
        "203.0.113.7 [上海市]",
        "张先生",
        "99",
    ],
    ["VIP-2024-8K3M-77QX-2", "未使用", "30天", "", "", "", "", "19"],
    ["VIP-2024-8K3M-77QX-3", "封禁", "永久", "", "", "", "退款", "299"],
    ["VIP-2024-8K3M-77QX-4", "正常", "永久卡", "9999-12-31 00:00:00", "BFEBFBFF000906E4", "", "", "299"],
]
WRONG = [
    ["6.217E+15", "未使用", "月卡", "", "", "", "", ""],
    ["VIP-2024-8K3M-77QX-1", "已售", "30", "", "", "", "", ""],
    ["VIP-2024-8K3M-77QX-5", "已激活", "月卡", "3/4/2026", "", "", "", ""],
    ["VIP-2024-8K3M-77QX-6", "已激活", "月卡", "", "M6", "", "", ""],
    ["短", "", "月卡", "", "", "300.0.0.1", "", ""],
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
            if row[0].startswith("6.217E"):
                sheet.write_number(line, 0, 6_217_000_012_345_678)
    return content.getvalue()


def send(browser: Browser, page: Seen, step: str, name: str, content: bytes, **more: str) -> Seen:
    return browser.submit(page, IMPORT, more, button=("step", step), files={"file": (name, content)})


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_an_old_systems_file_is_understood_shown_and_imported(owner: Browser, kind: str) -> None:
    content = as_csv(GOOD) if kind == "csv" else as_xlsx(GOOD)
    preview = send(owner, owner.get(IMPORT), "preview", f"旧卡.{kind}", content)
    assert Card.select().count() == 0
    for text in (
        *("可以导入 4 张", "GB18030" if kind == "csv" else "XLSX", "忽略的列 价格"),
        *("登录IP 绑定设备的 IP 203.0.113.7 [上海市] 203.0.113.7", "类型/时长 有效期 年卡 365 天"),
        *("状态 状态 已使用 使用中", "卡号 卡密 VIP-2024-8K3M-77QX-1", "机器码 绑定设备的机器码 BFEBFBFF000906E9"),
        *("其中已绑定设备 2", "其中已冻结 1", "2 张使用中的卡密没有激活时间"),
    ):
        assert text in preview.words, text
    assert "2099-03-01 08:00" in preview.words
    own = {"own_password": PASSWORD} if kind == "xlsx" else {}
    done = send(owner, preview, "import", f"旧卡.{kind}", content, **own)
    assert "已导入 4 张" in done.words
    found = {card.imported_key: card for card in Card.select()}
    assert set(found) == {row[0] for row in GOOD}
    assert found[GOOD[2][0]].frozen_at is not None
    assert found[GOOD[3][0]].validity is None
    assert {client.hardware: client.ip for client in Client.select()} == {
        "BFEBFBFF000906E9": "203.0.113.7",
        "BFEBFBFF000906E4": "",
    }
    (event,) = Event.select().where(Event.kind == "imported")
    assert (event.details["count"], event.details["bound"]) == (4, 2)
    page = owner.get("/admin/cards?q=VIP-2024-8K3M")
    assert all(row[0] in page.words for row in GOOD)


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_all_mistakes_are_shown_at_once_by_line_and_the_files_own_columns(owner: Browser, kind: str) -> None:
    rows = GOOD + WRONG
    preview = send(
        owner, owner.get(IMPORT), "preview", f"旧卡.{kind}", as_csv(rows) if kind == "csv" else as_xlsx(rows)
    )
    assert "5 行有误" in preview.words
    for said in (
        *("6 卡号 “6.217", "长数字", "7 状态 “已售”不是状态", "7 类型/时长 “30”没有单位", "7 卡号 与第 2 行重复"),
        *("8 到期时间 “3/4/2026”不是日期或时间", "9 — 已使用的卡密须有激活时间或“到期时间”"),
        *("10 卡号 “短”不是卡密", "10 登录IP “300.0.0.1”不是 IP 地址"),
    ):
        assert said in preview.words, said
    assert not [button for button in preview.form(IMPORT).buttons if button[1] == "import"]
    assert Card.select().count() == 0


def test_a_workbook_always_asks_for_the_password(owner: Browser) -> None:
    content = as_xlsx(GOOD)
    preview = send(owner, owner.get(IMPORT), "preview", "a.xlsx", content)
    assert "own_password" in dict(preview.form(IMPORT).fields)
    refused = send(owner, preview, "import", "a.xlsx", content, own_password="wrong")
    assert refused.status == 400
    assert Card.select().count() == 0


def test_customers_notice_nothing(owner: Browser, service: Service) -> None:
    content = as_csv(GOOD)
    send(owner, send(owner, owner.get(IMPORT), "preview", "a.csv", content), "import", "a.csv", content)
    first = service.verify(question(GOOD[0][0], hardware="BFEBFBFF000906E9"))
    assert (first.claims["accepted"], first.claims["activated"], first.claims["sub"]) == (True, False, GOOD[0][0])
    assert service.verify(question(GOOD[3][0], hardware="another")).claims["code"] == "CLIENT_MISMATCH"
    assert service.verify(question(GOOD[1][0], hardware="new")).claims["activated"] is True
    assert service.verify(question(GOOD[2][0], hardware="h")).claims["code"] == "CARD_FROZEN"
    assert Card.get(Card.id == card_id_of(GOOD[1][0])).is_activated


@pytest.mark.parametrize(("kind", "begins"), [("xlsx", b"PK"), ("csv", "\ufeff卡密,有效期,状态".encode())])
def test_the_template_is_downloaded_and_read(owner: Browser, kind: str, begins: bytes) -> None:
    link = f"{IMPORT}/template?format={kind}"
    assert link in owner.get(IMPORT).links
    template = owner.get(link)
    assert template.content.startswith(begins)
    assert f"kadun-import.{kind}" in template.headers["content-disposition"]
    preview = send(owner, owner.get(IMPORT), "preview", f"a.{kind}", template.content)
    assert "文件中没有卡密" in preview.words


def test_odd_files_are_refused_in_words(owner: Browser) -> None:
    for content, said in [
        ("卡号,类型\r\nVIP-0001-0001,月卡\r\n".encode("utf-16"), "不是 XLSX，也不是 UTF-8 或 GB18030"),
        (as_xlsx(GOOD)[:-300], "XLSX 文件已损坏"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "旧版 Excel"),
        ("卡号;类型\r\nVIP-0001-0001;月卡\r\n".encode(), "缺少卡密列"),
        ("=cmd|' /C calc'!A0,类型\r\n".encode(), "缺少卡密列"),
        ("卡号,类型\r\n<script>alert(1)</script>x,<img src=x>\r\n".encode(), "&lt;img src=x&gt;"),
    ]:
        preview = send(owner, owner.get(IMPORT), "preview", "a.xlsx", content)
        assert said in preview.words or said in preview.text
        assert "<script>alert" not in preview.text, (content, said)
        assert Card.select().count() == 0, (content, said)
