"""Who comes in: log-ins, second factors, operators, what a seller may, tokens of shops."""

from datetime import UTC, datetime

import pyotp
import pytest
from playwright.sync_api import expect

from app.domain.operators import Role
from tests.browser.conftest import Enter, Hire
from tests.browser.people import Person
from tests.browser.seeding import LIVE, SELLER, SHOP, Shop
from tests.browser.visits import LOOKS, Look, Site, Troubles, Visit, assert_walked
from tests.console import PASSWORD

WALKED = {
    ("POST", "/admin/login"),
    ("POST", "/admin/logout"),
    ("POST", "/admin/account/password"),
    ("POST", "/admin/account/sessions"),
    ("POST", "/admin/account/two-step"),
    ("POST", "/admin/account/two-step/remove"),
    ("POST", "/admin/operators"),
    ("POST", "/admin/operator/role"),
    ("POST", "/admin/operator/password"),
    ("POST", "/admin/operator/two-step"),
    ("POST", "/admin/operator/remove"),
    ("POST", "/admin/token"),
}
ANOTHER = "a horse of another colour"
AT_DESK_AND_BY_THUMB = pytest.mark.parametrize("look", LOOKS, ids=str)


def new_password(person: Person, within: str) -> None:
    form = person.page.locator(f"form[action='{within}']")
    form.locator("[name=new_password]").fill(ANOTHER)
    form.locator("[name=new_password_again]").fill(ANOTHER)
    form.locator("[name=own_password]").fill(PASSWORD)
    form.get_by_role("button").click()


def set_up_two_steps(person: Person, password: str = PASSWORD) -> pyotp.TOTP:
    person.go("/admin/account")
    person.follow("启用两步验证…", "Set it up…")
    expect(person.page.locator("svg.qr")).to_be_visible()
    totp = pyotp.TOTP(person.page.locator("#secret").inner_text())
    person.field("您的密码", "Your password").fill(password)
    person.field("验证码", "Code").fill(totp.now())
    person.press("启用", "Turn it on")
    person.reads("已启用两步验证", "Two-step verification is on")
    return totp


@AT_DESK_AND_BY_THUMB
def test_who_logs_in_gets_to_where_they_were_going_and_out_again(
    visit: Visit, hire: Hire, troubles: Troubles, look: Look
) -> None:
    troubles.expect("status of 403")
    name = hire()
    person = Person(visit(f"/admin/cards?status=frozen&lang={look.language}", look), look)
    person.fill_in(name, "not the password")
    expect(person.page.get_by_role("alert")).to_be_visible()
    expect(person.page.locator("#name")).to_have_value(name)
    person.fill_in(name, PASSWORD)
    person.page.wait_for_url("**/admin/cards?status=frozen**")
    person.press("退出", "Log out")
    person.page.wait_for_url("**/admin/login")
    person.go("/admin/cards")
    assert "/admin/login" in person.page.url


@AT_DESK_AND_BY_THUMB
def test_two_step_verification_is_set_up_and_asked_for(
    visit: Visit, hire: Hire, troubles: Troubles, look: Look
) -> None:
    troubles.expect("status of 403")
    name = hire(Role.SELLER)
    person = Person(visit("/admin/login", look), look).log_in(name)
    totp = set_up_two_steps(person)
    person.press("退出", "Log out")
    person.fill_in(name, PASSWORD)
    expect(person.page.get_by_role("alert")).to_be_visible()
    person.fill_in(
        name, PASSWORD, totp.at(datetime.now(UTC), counter_offset=1)
    )  # the present one was taken when it was set up
    expect(person.button("退出", "Log out")).to_be_visible()


@AT_DESK_AND_BY_THUMB
def test_two_step_verification_is_turned_off_again(visit: Visit, hire: Hire, look: Look) -> None:
    person = Person(visit("/admin/login", look), look).log_in(hire())
    totp = set_up_two_steps(person)
    person.field("您的密码", "Your password").fill(PASSWORD)
    person.field("验证码", "Code").fill(totp.at(datetime.now(UTC), counter_offset=1))
    person.press("停用两步验证", "Turn it off")
    person.reads("已停用两步验证", "Two-step verification is off")


@AT_DESK_AND_BY_THUMB
def test_a_password_change_ends_the_sessions_elsewhere_alone(visit: Visit, hire: Hire, look: Look) -> None:
    name = hire()
    elsewhere = Person(visit("/admin/login"), LOOKS[0]).log_in(name)
    person = Person(visit("/admin/login", look), look).log_in(name)
    person.go("/admin/account")
    person.press("结束其他所有登录", "End all of them")
    person.reads("其他设备上的登录均已结束", "Your log-ins elsewhere have ended")
    assert "/admin/login" in elsewhere.go("/admin/").page.url

    elsewhere.log_in(name)
    new_password(person.go("/admin/account"), "/admin/account/password")
    person.reads("已修改密码", "The password is changed")
    assert "/admin/login" in elsewhere.go("/admin/").page.url
    elsewhere.log_in(name, ANOTHER)


@AT_DESK_AND_BY_THUMB
def test_an_operator_is_added_changed_and_removed(enter: Enter, visit: Visit, look: Look) -> None:
    name = f"新人 {look}"
    person = enter("/admin/operators", look)
    person.field("用户名", "Name").fill(name)
    new_password(person, "/admin/operators")
    person.reads("已添加管理员", "The operator is added")
    newcomer = Person(visit("/admin/login"), LOOKS[0]).log_in(name, ANOTHER)
    assert newcomer.page.locator("nav a[href='/admin/operators']").count() == 0

    def change(zh: str, en: str) -> None:
        person.page.get_by_role("link", name=name, exact=True).click()
        section = person.page.locator("section", has=person.page.get_by_role("button", name=person.t(zh, en)))
        section.locator("[name=own_password]").fill(PASSWORD)
        section.get_by_role("button").click()

    change("改为所有者", "Make them owner")
    person.reads("已更改角色", "The role is changed")
    newcomer.go("/admin/operators").is_headed("管理员", "Operators")
    set_up_two_steps(newcomer, ANOTHER)
    person.go("/admin/operators")
    change("停用两步验证", "Take it away")
    person.reads("已停用对方的两步验证", "Their two-step verification is off")
    person.page.get_by_role("link", name=name, exact=True).click()
    new_password(person, "/admin/operator/password")
    person.reads("已设置新密码", "The new password is set")
    newcomer.log_in(name, ANOTHER)
    change("移除", "Remove ")
    person.reads("已移除管理员", "The operator is removed")
    assert "/admin/login" in newcomer.go("/admin/").page.url


@AT_DESK_AND_BY_THUMB
def test_a_seller_sees_what_a_seller_may_do(enter: Enter, shop: Shop, look: Look) -> None:
    person = enter(f"/admin/cards?batch={LIVE}", look, SELLER)
    page = person.page
    expect(person.rows.first).to_be_visible()
    expect(page.locator("main button[name=action], main button[name=format], input[name=id]")).to_have_count(0)
    assert {link.get_attribute("href") for link in page.locator("header nav a").all()} == {
        "/admin/",
        "/admin/cards",
        "/admin/cards/issue",
        "/admin/journal",
        "/admin/sharing",
    }
    person.go(f"/admin/card?id={shop.live}")
    expect(page.locator("main button[name=action]")).to_have_count(0)
    person.go("/admin/cards/issue")
    person.press("发卡", "Issue", page.locator("main"))
    person.is_headed("已发出 1 张", "Issued 1 card")
    assert len(person.download(page.get_by_role("link").filter(has_text="TXT")).split()) == 1


@AT_DESK_AND_BY_THUMB
def test_a_token_is_revoked(site: Site, enter: Enter, look: Look) -> None:
    name = f"{SHOP} {look.device}"
    site.cardctl("token", "add", name, "--scope", "cards:issue,cards:read")
    person = enter("/admin/operators", look)
    row = person.page.locator("tr", has_text=name)
    row.get_by_role("link").click()
    person.page.locator("[name=own_password]").fill(PASSWORD)
    person.press(f"吊销{name}", f"Revoke {name}")
    person.reads("已吊销令牌", "The token is revoked")
    expect(row).to_contain_text(person.t("已吊销", "revoked"))


def test_all_of_this_was_walked(site: Site) -> None:
    assert_walked(site, WALKED)
