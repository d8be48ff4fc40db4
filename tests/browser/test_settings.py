"""The vendor's terms, the block list, imports and exports, on desktop and phone, in both languages."""

import json

from playwright.sync_api import Locator, expect

from tests.browser.conftest import Enter, Fresh
from tests.support.browser.people import Person
from tests.support.browser.visits import Look, Reading, Troubles, in_two_looks
from tests.support.console.console import PASSWORD

pytestmark = in_two_looks


def test_terms_are_refused_and_changed(enter: Enter, troubles: Troubles, reading: Reading, look: Look) -> None:
    troubles.expect("status of 400")
    person = enter("/admin/settings", look)
    page = person.page
    changes = page.locator("[name=changes_per_day]")
    changes.fill("2")
    contact, own_password = page.locator("[name=contact]"), page.locator("[name=own_password]")
    contact.fill("QQ 12345")
    page.locator("[name=minimum_version]").fill("2.0")
    page.locator("[name=latest_version]").fill("1.10")
    own_password.fill(PASSWORD)
    person.press("保存", "Save", page.locator("main form"))
    expect(page.locator("#wrong-minimum_version")).to_be_visible()
    expect(contact).to_have_value("QQ 12345")
    reading(page, "settings-refused")
    for name, text in (("minimum_version", "1.9"), ("changes_per_day", "")):
        page.locator(f"[name={name}]").fill(text)
    own_password.fill(PASSWORD)
    own_password.press("Enter")
    person.reads("已保存", "Saved")
    expect(contact).to_have_value("QQ 12345")
    for name in ("contact", "minimum_version", "latest_version"):
        page.locator(f"[name={name}]").fill("")
    own_password.fill(PASSWORD)
    person.press("保存", "Save", page.locator("main form"))
    person.reads("已保存", "Saved")


def test_a_network_is_blocked_and_removed(enter: Enter, reading: Reading, look: Look) -> None:
    person = enter("/admin/blocks", look)
    page = person.page
    person.follow("添加…", "Add…")
    network, reason = "203.0.113.128/28", f"测试 {look}"
    page.locator("[name=network]").fill(network)
    page.locator("[name=reason]").fill(reason)
    person.press("拉黑", "Block")
    expect(page.locator("[name=own_password]")).to_be_visible()
    reading(page, "block-network")
    page.locator("[name=own_password]").fill(PASSWORD)
    person.press("拉黑", "Block")
    person.reads("已拉黑", "Blocked. It is in force")
    person.touch(page.locator("tr", has_text=reason).get_by_role("link", name=person.t("移出…", "Remove…")))
    person.press("移出", "Remove")
    person.reads("已移出黑名单", "Removed from the block list")
    expect(page.locator("tr", has_text=reason)).to_have_count(0)


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
