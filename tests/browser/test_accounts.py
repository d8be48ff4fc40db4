"""Log-ins, second factors, operators, the seller's view and shops' tokens in the browser."""

from datetime import UTC, datetime
from urllib.parse import urlencode

import pyotp
from playwright.sync_api import expect

from app.domain.operators.operators import Role
from app.storage.models import Operator
from tests.browser.conftest import Enter, Hire
from tests.support.browser.people import Person
from tests.support.browser.seeding import HOOK, LIVE, SELLER, Shop, opened
from tests.support.browser.visits import Look, Reading, Site, Troubles, Visit, in_two_looks
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
