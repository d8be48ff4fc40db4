"""Imports and exports in the browser, on desktop and phone, in both languages."""

import json
from datetime import timedelta
from urllib.parse import urlencode

from playwright.sync_api import Locator, expect

from app.clock import utc_now
from app.services.issuing import Issuing
from tests.browser.conftest import Enter, Fresh
from tests.support.browser.people import Person
from tests.support.browser.seeding import Shop, opened
from tests.support.browser.visits import Look, Reading, Site, in_two_looks
from tests.support.console import PASSWORD

pytestmark = in_two_looks


def test_a_faulty_file_is_mended_and_imported(enter: Enter, look: Look, reading: Reading) -> None:
    person = enter("/admin/cards/import", look)
    page = person.page
    mine = f"{look.device[0]}{look.language[0]}".upper()
    old = [f"{number:029}{mine}{letter}" for number, letter in ((1, "A"), (2, "B"))]

    def choose(*rows: str) -> None:
        content = "\r\n".join(("卡密,有效期,批次", *rows)).encode("gb18030")  # as Excel in China writes it
        page.locator("#f-file").set_input_files({"name": "旧卡.csv", "mimeType": "text/csv", "buffer": content})
        person.press("核对", "Check")

    with page.expect_download() as template:
        page.get_by_role("link", name="XLSX").click()
    assert template.value.suggested_filename == "kadun-import.xlsx"
    choose(f"{old[0]},月卡,旧卡-{look}", f"{old[1]},很久,旧卡-{look}", "短,月卡,")
    person.reads("2 处有误", "2 errors")
    expect(page.locator("#faults tbody tr")).to_have_count(2)
    expect(page.locator("#faults tbody tr").first).to_contain_text("3")
    expect(page.locator("#preview button")).to_have_count(0)
    choose(f"{old[0]},月卡,旧卡-{look}", f"{old[1]},年卡,旧卡-{look}")
    expect(person.button("导入 2 张", "Import 2 cards")).to_be_visible()
    reading(page, "import-checked")
    person.press("导入 2 张", "Import 2 cards")
    person.is_headed("已导入 2 张", "Imported 2 cards")
    reading(page, "imported")
    page.get_by_role("link", name=f"旧卡-{look}").click()
    expect(person.rows).to_have_count(2)


def confirmed(person: Person) -> Locator:
    """Type the password; return the button that brings the file."""
    person.page.locator("[name=own_password]").fill(PASSWORD)
    return person.button("导出", "Export", person.page.locator("main"))


def test_cards_leave_as_files(enter: Enter, fresh: Fresh, reading: Reading, look: Look) -> None:
    person = enter(f"/admin/cards?batch={fresh.batch}&status=unused", look)
    page = person.page

    def ask(zh: str, en: str) -> Locator:
        person.press(zh, en)
        person.is_headed("导出卡密", "Export cards")
        return confirmed(person)

    assert {row["id"] for row in person.download_rows(ask("CSV", "CSV"))} == set(fresh.ids)
    reading(page, "export")
    person.follow("返回列表", "Back to the list")
    assert {card["id"] for card in json.loads(person.download(ask("JSON", "JSON")))} == set(fresh.ids)
    person.follow("返回列表", "Back to the list")
    page.locator(f"input[value='{fresh.ids[1]}']").check()
    assert person.download(ask("导出所选 TXT", "Export selected TXT")).split() == [fresh.ids[1]]
    person.go("/admin/journal?kind=exported")
    expect(person.rows.first).to_contain_text("txt")


def test_a_large_issue_of_somebody_else_takes_the_password(enter: Enter, site: Site, look: Look) -> None:
    with opened(site) as database:
        issued = Issuing(database, "tester", utc_now).issue(101, timedelta(days=30), f"大批-{look}")
    person = enter(f"/admin/cards/issued?{urlencode({'at': issued.at.isoformat()})}", look)
    expect(person.page.locator("main .alert")).to_contain_text(person.t("下载全部需要您的密码", "takes your password"))
    assert len(person.page.locator("#keys").input_value().split()) == 100
    person.press("下载 CSV…", "Download CSV…")
    assert len(person.download_rows(confirmed(person))) == 101
    person.follow("返回列表", "Back to the list")
    expect(person.page.locator("#keys")).to_be_visible()


def test_the_journal_is_filtered_and_leaves_as_a_file(enter: Enter, shop: Shop, look: Look) -> None:
    person = enter("/admin/journal", look)
    page = person.page
    person.field("类型", "Kind").select_option("CLIENT_MISMATCH")
    page.wait_for_url("**/admin/journal?kind=CLIENT_MISMATCH")
    person.field("卡密", "Card").fill(shop.live)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**card={shop.live}**")
    expect(person.rows.first).to_contain_text(person.t("设备不符", "another machine"))
    shown = person.rows.count()
    person.press("CSV", "CSV")
    rows = person.download_rows(confirmed(person))
    assert len(rows) == shown
    assert {(row["code"], row["card_id"]) for row in rows} == {("CLIENT_MISMATCH", shop.live)}
    page.go_back()
    person.press("JSON", "JSON")
    assert len(json.loads(person.download(confirmed(person)))) == shown
