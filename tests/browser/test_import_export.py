"""Imports and exports in the browser, on desktop and phone, in both languages."""

import json

from playwright.sync_api import Locator, expect

from tests.browser.conftest import Enter, Fresh
from tests.support.browser.people import Person
from tests.support.browser.visits import Look, Reading, in_two_looks
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


def export(person: Person, zh: str, en: str) -> Locator:
    """Choose a format and type the password; return the button that brings the file."""
    person.press(zh, en)
    person.page.locator("[name=own_password]").fill(PASSWORD)
    return person.button("导出", "Export", person.page.locator("main"))


def test_cards_leave_as_files(enter: Enter, fresh: Fresh, reading: Reading, look: Look) -> None:
    person = enter(f"/admin/cards?batch={fresh.batch}&status=unused", look)
    page = person.page
    assert {row["id"] for row in person.download_rows(export(person, "CSV", "CSV"))} == set(fresh.ids)
    reading(page, "export")
    person.follow("返回列表", "Back to the list")
    assert {card["id"] for card in json.loads(person.download(export(person, "JSON", "JSON")))} == set(fresh.ids)
    person.follow("返回列表", "Back to the list")
    page.locator(f"input[value='{fresh.ids[1]}']").check()
    assert person.download(export(person, "导出所选 TXT", "Export selected TXT")).split() == [fresh.ids[1]]
    person.go("/admin/journal?kind=exported")
    expect(person.rows.first).to_contain_text("txt")
