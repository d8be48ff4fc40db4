"""The vendor's terms and the block list, on desktop and phone, in both languages."""

from playwright.sync_api import expect

from tests.browser.conftest import Enter
from tests.support.browser.visits import Look, Reading, Troubles, in_two_looks
from tests.support.console import PASSWORD

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
