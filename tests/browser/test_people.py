"""Who comes in: log-ins, second factors, operators, tokens; and those who come by keyboard or without scripts."""

from collections.abc import Callable
from datetime import UTC, datetime

import pyotp
import pytest
from playwright.sync_api import Page, expect

from app.domain.operators import Role
from tests.browser.conftest import Enter
from tests.browser.people import Person
from tests.browser.seeding import FESTIVAL, SHOP, Shop, opened
from tests.browser.visits import LOOKS, Look, Site, Troubles, Visit, assert_walked
from tests.console import PASSWORD, add_operator

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
AT_DESK_AND_BY_THUMB = pytest.mark.parametrize("look", [LOOKS[0], LOOKS[3]], ids=str)

Hire = Callable[..., str]


@pytest.fixture
def hire(site: Site, shop: Shop, request: pytest.FixtureRequest) -> Hire:
    """Add an operator, whom nobody else is told of."""

    def add(role: Role = Role.OWNER) -> str:
        name = f"小{sum(map(ord, request.node.name)):x}{role[0]}"
        with opened(site):
            add_operator(name, role)
        return name

    return add


def new_password(person: Person, within: str) -> None:
    form = person.page.locator(f"form[action='{within}']")
    form.locator("[name=new_password]").fill(ANOTHER)
    form.locator("[name=new_password_again]").fill(ANOTHER)
    form.locator("[name=own_password]").fill(PASSWORD)
    form.get_by_role("button").click()


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
    totp = set_up(person)
    person.reads("已启用两步验证", "Two-step verification is on")
    person.press("退出", "Log out")
    person.fill_in(name, PASSWORD)
    expect(person.page.get_by_role("alert")).to_be_visible()
    person.fill_in(name, PASSWORD, totp.at(datetime.now(UTC), counter_offset=1))  # the present one was taken when it was set up
    expect(person.button("退出", "Log out")).to_be_visible()


def set_up(person: Person) -> pyotp.TOTP:
    person.go("/admin/account")
    person.follow("启用两步验证…", "Set it up…")
    expect(person.page.locator("svg.qr")).to_be_visible()
    totp = pyotp.TOTP(person.page.locator("#secret").inner_text())
    person.field("您的密码", "Your password").fill(PASSWORD)
    person.field("验证码", "Code").fill(totp.now())
    person.press("启用", "Turn it on")
    person.reads("已启用", "on")
    return totp


@AT_DESK_AND_BY_THUMB
def test_two_step_verification_is_turned_off_again(visit: Visit, hire: Hire, look: Look) -> None:
    person = Person(visit("/admin/login", look), look).log_in(hire())
    totp = set_up(person)
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
    totp_of_newcomer(newcomer)
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


def totp_of_newcomer(newcomer: Person) -> None:
    newcomer.go("/admin/account/two-step")
    totp = pyotp.TOTP(newcomer.page.locator("#secret").inner_text())
    newcomer.field("您的密码", "Your password").fill(ANOTHER)
    newcomer.field("验证码", "Code").fill(totp.now())
    newcomer.press("启用", "Turn it on")
    newcomer.reads("已启用两步验证", "on")


@AT_DESK_AND_BY_THUMB
def test_a_token_is_revoked(site: Site, enter: Enter, look: Look) -> None:
    name = f"{SHOP} {look.device}"
    site.cardctl("token", "add", name, "--scope", "cards:issue,cards:read")
    person = enter("/admin/operators", look)
    row = person.page.locator("tr", has_text=name)
    row.get_by_role("link").click()
    person.press(f"吊销{name}", f"Revoke {name}")
    person.reads("已吊销令牌", "The token is revoked")
    expect(row).to_contain_text(person.t("已吊销", "revoked"))


def test_language_and_scheme_stay_chosen(enter: Enter) -> None:
    person = enter(f"/admin/cards?batch={FESTIVAL}")
    page = person.page
    page.get_by_role("link", name="English").click()
    expect(page.locator("h1")).to_have_text("Cards")
    expect(person.rows).to_have_count(50)  # the filter holds
    page.locator("[data-theme-toggle]").click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    person.go("/admin/")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.get_by_role("link", name="中文").click()
    expect(page.locator("h1")).to_have_text("总览")


CHARTS = {"卡密状态", "每日激活", "每日验证", "拒绝原因", "即将到期", "使用最多的功能", "最大的批次"}


def test_every_chart_leads_to_the_rows_behind_it(enter: Enter) -> None:
    person = enter("/admin/")
    page = person.page
    assert {canvas.get_attribute("aria-label") for canvas in page.locator("canvas").all()} == CHARTS
    for name in CHARTS:
        person.go("/admin/")
        x, y, link = page.get_by_role("img", name=name, exact=True).evaluate(_SPOT)
        page.get_by_role("img", name=name, exact=True).click(position={"x": x, "y": y})
        page.wait_for_url(lambda url, link=link: url.endswith(link))
        expect(page.locator("#results tbody tr").first).to_be_visible()


# Where a bar, point or segment with a link stands that is not empty, and where that leads.
_SPOT = """(canvas) => {
    const chart = Chart.getChart(canvas), series = JSON.parse(canvas.dataset.chart).series;
    for (const [at, {values, links}] of series.entries())
        for (const [index, value] of values.entries())
            if (value && links[index]) {
                const {x, y} = chart.getDatasetMeta(at).data[index].getCenterPoint();
                return [x, y, links[index]];
            }
}"""


def test_the_figures_beneath_a_chart_are_links_for_the_keyboard(enter: Enter) -> None:
    person = enter("/admin/")
    page = person.page
    section = page.get_by_role("region", name="拒绝原因", exact=True).first
    section.locator("summary").focus()
    page.keyboard.press("Enter")
    link = section.locator("table a").last
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/journal?kind=**")
    expect(person.rows.first).to_be_visible()


def focused(page: Page) -> str:
    """What the focus is on, and that it can be seen there."""
    said = page.evaluate("""() => {
        const on = document.activeElement, style = getComputedStyle(on), box = on.getBoundingClientRect();
        const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) || style.boxShadow !== "none";
        return [on.id || on.textContent.trim(), !!ring && box.width > 0 && box.height > 0];
    }""")
    assert said[1], f"no focus to be seen on {said[0]}"
    return str(said[0])


def test_the_keyboard_alone_is_enough(visit: Visit, hire: Hire) -> None:
    page = visit("/admin/login")
    keyboard = page.keyboard
    expect(page.locator("#name")).to_be_focused()
    keyboard.type(hire())
    for field in ("password", "code"):
        keyboard.press("Tab")
        assert focused(page) == field
        if field == "password":
            keyboard.type(PASSWORD)
    keyboard.press("Enter")
    page.wait_for_url("**/admin/")

    keyboard.press("Tab")
    assert focused(page) == "跳到正文"
    keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.reload()
    stops = []
    while len(stops) < 12:
        keyboard.press("Tab")
        stops.append(focused(page))
    assert stops == [
        *("跳到正文", "卡盾", "总览", "卡密", "发卡", "日志", "共享与攻击", "文件", "功能", "密钥", "健康", "管理员"),
    ]
    for _ in range(8):
        keyboard.press("Shift+Tab")
    assert focused(page) == "卡密"
    keyboard.press("Enter")
    page.wait_for_url("**/admin/cards")
    page.locator("[name=q]").focus()
    keyboard.type("没有")
    keyboard.press("Enter")
    page.wait_for_url("**/admin/cards?q=**")


@AT_DESK_AND_BY_THUMB
def test_pages_work_without_scripts(visit: Visit, hire: Hire, shop: Shop, look: Look) -> None:
    person = Person(visit("/admin/login", look, java_script_enabled=False), look).log_in(hire())
    page = person.page
    person.go("/admin/cards")
    page.locator("label[for=status-unused]").click()
    person.press("搜索", "Search")
    assert person.query["status"] == "unused"
    card = page.locator(".card-id").first.inner_text()
    page.locator(f"input[value='{card}']").check()
    person.press("冻结", "Freeze")
    person.press("冻结 1 张", "Freeze 1 card")
    person.is_headed("已冻结 1 张", "Frozen 1 card")
    person.press("撤销（解冻）", "Undo (Unfreeze)")
    person.is_headed("已解冻 1 张", "Unfrozen 1 card")

    old = f"{0:031}{look.device[0].upper()}"
    for button in (("核对", "Check"), ("导入 1 张", "Import 1 card")):
        if button[0] == "核对":
            person.go("/admin/cards/import")
        content = f"id,validity\n{old},30d\n".encode()
        page.locator("#f-file").set_input_files({"name": "old.csv", "mimeType": "text/csv", "buffer": content})
        person.press(*button)
    person.is_headed("已导入 1 张", "Imported 1 card")


def test_all_of_this_was_walked(site: Site) -> None:
    assert_walked(site, WALKED)
