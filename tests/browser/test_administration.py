"""A vendor's rarer work: log-ins, operators, webhooks, terms, blocks, imports and exports, in two looks."""

import json
from datetime import UTC, datetime
from urllib.parse import urlencode

import pyotp
from playwright.sync_api import Locator, expect

from app.domain.operators.operators import Role
from app.storage.models import Operator
from tests.browser.conftest import Enter, Fresh, Hire
from tests.support.browser.seeding import HOOK, LIVE, SELLER, Shop, opened
from tests.support.browser.visits import Look, Person, Reading, Site, Troubles, Visit, in_two_looks
from tests.support.console.console import PASSWORD

ANOTHER = "a horse of another colour"
SELLERS = {  # pages of theirs
    "overview": "/admin/",
    "cards": f"/admin/cards?batch={LIVE}",
    "issue": "/admin/cards/issue",
    "journal": "/admin/journal",
    "sharing": "/admin/sharing",
    "account": "/admin/account",
}
pytestmark = in_two_looks


def new_password(person: Person, within: str) -> None:
    form = person.page.locator(f"form[action='{within}']")
    form.locator("[name=new_password]").fill(ANOTHER)
    form.locator("[name=new_password_again]").fill(ANOTHER)
    form.locator("[name=own_password]").fill(PASSWORD)
    form.get_by_role("button").click()


def test_a_log_in_leads_to_the_requested_page(
    visit: Visit, hire: Hire, troubles: Troubles, reading: Reading, look: Look
) -> None:
    troubles.expect("status of 403")
    name = hire()
    person = Person(visit(f"/admin/cards?status=frozen&lang={look.language}", look), look)
    person.fill_in(name, "not the password")
    expect(person.page.get_by_role("alert")).to_be_visible()
    expect(person.page.locator("#name")).to_have_value(name)
    reading(person.page, "login-refused")
    person.fill_in(name, PASSWORD)
    person.page.wait_for_url("**/admin/cards?status=frozen**")
    person.press("退出", "Log out")
    person.page.wait_for_url("**/admin/login")
    person.go("/admin/cards")
    assert "/admin/login" in person.page.url


def test_two_step_verification_is_set_up_asked_for_and_turned_off_again(
    site: Site, enter: Enter, hire: Hire, troubles: Troubles, reading: Reading, look: Look
) -> None:
    troubles.expect("status of 403")
    name = hire(Role.SELLER)
    person = enter("/admin/account", look, name)
    person.follow("启用两步验证…", "Set it up…")
    expect(person.page.locator("svg.qr")).to_be_visible()
    totp = pyotp.TOTP(person.page.locator("#secret").inner_text())
    person.field("您的密码", "Your password").fill(PASSWORD)
    person.field("验证码", "Code").fill(totp.now())
    person.press("启用", "Turn it on")
    person.reads("已启用两步验证", "Two-step verification is on")
    person.press("退出", "Log out")
    person.fill_in(name, PASSWORD)
    expect(person.page.get_by_role("alert")).to_be_visible()
    # The present code was used up when the verification was set up.
    person.fill_in(name, PASSWORD, totp.at(datetime.now(UTC), counter_offset=1))
    expect(person.button("退出", "Log out")).to_be_visible()
    person.go("/admin/account")
    reading(person.page, "account-two-step")
    with opened(site):  # or half a minute would have to pass until there is a code that was not taken
        Operator.update(totp_last_step=None).where(Operator.name == name).execute()
    form = person.page.locator("form[action='/admin/account/two-step/remove']")
    form.locator("[name=own_password]").fill(PASSWORD)
    form.locator("[name=own_code]").fill(totp.now())
    person.press("停用两步验证", "Turn it off")
    person.reads("已停用两步验证", "Two-step verification is off")


def test_an_operator_is_added_changed_and_removed(site: Site, enter: Enter, reading: Reading, look: Look) -> None:
    name = f"新人 {look}"
    person = enter("/admin/operators", look)
    person.field("用户名", "Name").fill(name)
    new_password(person, "/admin/operators")
    person.reads("已添加管理员", "The operator is added")
    newcomer = enter("/admin/account", who=name)
    assert newcomer.page.locator("nav a[href='/admin/operators']").count() == 0

    def change(zh: str, en: str) -> None:
        person.page.get_by_role("link", name=name, exact=True).click()
        section = person.page.locator("section", has=person.page.get_by_role("button", name=person.t(zh, en)))
        section.locator("[name=own_password]").fill(PASSWORD)
        section.get_by_role("button").click()

    change("改为所有者", "Make them owner")
    person.reads("已更改角色", "The role is changed")
    reading(person.page, "operators-changed")
    newcomer.go("/admin/operators").is_headed("管理员", "Operators")
    change("移除", "Remove ")
    person.reads("已移除管理员", "The operator is removed")
    assert "/admin/login" in newcomer.go("/admin/account").page.url


def test_a_seller_sees_what_a_seller_may_do(
    enter: Enter, shop: Shop, troubles: Troubles, reading: Reading, look: Look
) -> None:
    troubles.expect("status of 403")
    person = enter("/admin/", look, SELLER)
    page = person.page
    for name, address in SELLERS.items():
        person.go(address)
        reading(page, f"seller-{name}")
    expect(page.locator("header nav a")).to_have_count(5)  # overview, cards, issue, journal, sharing
    person.go(f"/admin/card?id={shop.live}")
    expect(page.locator("main button[name=action]")).to_have_count(0)
    reading(page, "seller-card")
    person.go("/admin/keys").is_headed("无权访问", "No access")
    reading(page, "seller-refused")
    person.go("/admin/cards/issue")
    person.press("发卡", "Issue", page.locator("main"))
    person.is_headed("已发出 1 张", "Issued 1 card")
    assert len(person.download(page.get_by_role("link").filter(has_text="TXT")).split()) == 1


def test_a_webhook_is_added_tried_and_removed(enter: Enter, hire: Hire, reading: Reading, look: Look) -> None:
    name = f"hook {hire()}"
    person = enter("/admin/webhooks", look)
    person.field("名称", "Name").fill(name)
    person.page.locator("[name=url]").fill("https://shop.invalid/hook")
    person.page.get_by_role("checkbox").first.check()
    person.page.locator("[name=own_password]").fill(PASSWORD)
    person.press("添加", "Add")
    expect(person.page.locator("#secret")).to_contain_text("whsec_")
    person.follow("已保存，继续", "I have kept it")
    person.press("发送测试", "Send a test")
    person.reads("测试消息将在几秒内发送", "The test is sent within seconds")
    person.go(f"/admin/webhook?{urlencode({'name': HOOK})}")
    reading(person.page, "webhook-again")
    person.page.get_by_role("button", name=person.t("重新发送", "Send again")).first.click()
    person.reads("将在几秒内重新发送", "It is sent again within seconds")


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
