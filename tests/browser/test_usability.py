"""Use by other means (language, keyboard, time zone, no scripts), and hurried input, focus, forms sent again."""

from datetime import timedelta
from zoneinfo import ZoneInfo

from playwright.sync_api import Page, Route, expect

from app.runtime.clock import utc_now
from app.storage.models import Card, Figures
from tests.browser.conftest import Enter, Fresh, Hire
from tests.support.browser.seeding import FESTIVAL, FESTIVAL_CARDS, Shop, opened
from tests.support.browser.visits import (
    LOOKS,
    Look,
    Person,
    Site,
    Troubles,
    Visit,
    at_desk_and_by_thumb,
    in_two_looks,
    query_of,
)
from tests.support.console.console import PASSWORD

CHARTS = {
    "当前卡密状态",
    "最近 14 天的激活",
    "最近 14 天的验证",
    "最近 14 天的拒绝，按原因",
    "今后 14 天到期的卡密",
    "最近 14 天最常用的功能",
    "卡密最多的批次",
}


@at_desk_and_by_thumb
def test_language_and_scheme_stay_chosen(enter: Enter, look: Look) -> None:
    person = enter(f"/admin/cards?batch={FESTIVAL}", look)
    page = person.page
    other = "light" if look.scheme == "dark" else "dark"
    person.touch(page.get_by_role("link", name="English"))
    expect(page.locator("h1")).to_have_text("Cards")
    expect(person.rows).to_have_count(50)  # the filter holds
    person.touch(page.locator("[data-theme-toggle]"))
    expect(page.locator("html")).to_have_attribute("data-bs-theme", other)
    person.go("/admin/")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", other)
    expect(page.locator("html")).to_have_attribute("lang", "en")
    person.touch(page.get_by_role("link", name="中文"))
    expect(page.locator("h1")).to_have_text("总览")


@at_desk_and_by_thumb
def test_every_chart_leads_to_the_rows_behind_it(enter: Enter, look: Look) -> None:
    person = enter("/admin/", look)
    page = person.page
    assert {canvas.get_attribute("aria-label") for canvas in page.locator("canvas").all()} == CHARTS
    for name in CHARTS:
        person.go("/admin/")
        if look.device == "phone":
            person.press("图表、到期的卡密、批次", "Charts, expiring cards, batches")
        chart = page.get_by_role("img", name=name, exact=True)
        x, y, link = chart.evaluate(_SPOT)
        person.touch(chart, position={"x": x, "y": y})
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


def test_on_a_phone_menu_and_panels_fold_and_the_overview_is_three_screens(enter: Enter) -> None:
    person = enter("/admin/", LOOKS[2])
    page = person.page
    menu = page.get_by_role("navigation", name="主导航")
    expect(menu).not_to_be_visible()
    height = page.evaluate("document.documentElement.scrollHeight / innerHeight")
    assert height <= 3, f"{height} screens"
    button = person.button("菜单", "Menu")
    person.touch(button)
    expect(menu).to_be_visible()
    expect(button).to_have_attribute("aria-expanded", "true")
    person.touch(menu.get_by_role("link", name="日志"))
    page.wait_for_url("**/admin/journal")
    bare = enter("/admin/", LOOKS[2], java_script_enabled=False).page
    expect(bare.get_by_role("navigation", name="主导航")).to_be_visible()
    expect(bare.get_by_role("button", name="菜单")).not_to_be_visible()


def test_old_figures_are_counted_anew_while_the_page_is_open(site: Site, enter: Enter) -> None:
    person = enter("/admin/")
    with opened(site):
        Figures.update(counted_at=utc_now() - timedelta(minutes=5), seconds=60).execute()
    person.go("/admin/")
    expect(person.page.get_by_text("正在重新统计")).to_be_visible()
    expect(person.page.get_by_text("正在重新统计")).to_have_count(0)
    charts = person.page.locator("canvas")
    expect(charts).to_have_count(len(CHARTS))
    # They are drawn a moment after they are there.
    person.page.wait_for_function("[...document.querySelectorAll('canvas')].every((canvas) => Chart.getChart(canvas))")


def test_the_figures_beneath_a_chart_are_links_for_the_keyboard(enter: Enter) -> None:
    person = enter("/admin/")
    page = person.page
    section = page.get_by_role("region", name="最近 14 天的拒绝，按原因", exact=True).first
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


def test_times_are_in_the_vendors_zone_whatever_the_browsers_zone(enter: Enter, shop: Shop) -> None:
    person = enter("/admin/journal?kind=frozen")
    assert person.page.evaluate("Intl.DateTimeFormat().resolvedOptions().timeZone") == "America/New_York"
    frozen_at = shop.frozen_at.astimezone(ZoneInfo("Asia/Shanghai"))
    said = f"{frozen_at:%Y-%m-%d %H:%M:%S}"
    expect(person.rows.filter(has_text=shop.frozen[0]).locator("time")).to_have_text(said)
    # And so are those that are typed.
    for minutes, count in ((0, len(shop.frozen)), (1, 0)):
        since = frozen_at + timedelta(minutes=minutes)
        person.page.locator("[name=since]").fill(f"{since:%Y-%m-%dT%H:%M}")
        person.page.keyboard.press("Enter")
        expect(person.rows.filter(has_text=said)).to_have_count(count)


@at_desk_and_by_thumb
def test_the_keyboard_alone_is_enough(visit: Visit, hire: Hire, look: Look) -> None:
    page = visit("/admin/login", look)
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
    while len(stops) < 13:
        keyboard.press("Tab")
        stop = focused(page)
        if stop == "菜单":
            keyboard.press("Enter")
        else:
            stops.append(stop)
    assert " ".join(stops) == "跳到正文 卡盾 总览 卡密 发卡 日志 共享与攻击 程序 黑名单 文件 功能 密钥 系统状态"
    for _ in range(9):
        keyboard.press("Shift+Tab")
    assert focused(page) == "卡密"
    keyboard.press("Enter")
    page.wait_for_url("**/admin/cards")
    page.locator("[name=q]").focus()
    keyboard.type("没有")
    keyboard.press("Enter")
    page.wait_for_url("**/admin/cards?q=**")


@in_two_looks
def test_pages_work_without_scripts(visit: Visit, hire: Hire, look: Look) -> None:
    person = Person(visit("/admin/login", look, java_script_enabled=False), look).log_in(hire())
    page = person.page
    person.go("/admin/cards")
    page.locator("label[for=status-unused]").click()
    person.press("搜索", "Search")
    page.wait_for_url(lambda url: query_of(url).get("status") == "unused")
    card = page.locator(".card-id").first.inner_text()
    page.locator(f"input[value='{card}']").check()
    person.press("冻结", "Freeze")
    person.press("冻结 1 张", "Freeze 1 card")
    person.is_headed("已冻结 1 张", "Frozen 1 card")
    person.press("撤销（解冻）", "Undo (Unfreeze)")
    person.is_headed("已解冻 1 张", "Unfrozen 1 card")


def validity(site: Site, card_id: str) -> timedelta:
    with opened(site):
        found: timedelta = Card.get_by_id(card_id).validity
        return found


def test_a_duration_typed_just_before_the_button_is_confirmed_first(
    site: Site, enter: Enter, fresh: Fresh, troubles: Troubles
) -> None:
    troubles.expect("status of 400")
    troubles.expect("ERR_ABORTED")  # what htmx had just asked for is not waited for
    person = enter(f"/admin/card?id={fresh.ids[0]}")
    page = person.page
    person.press("延期…", "Extend…")
    page.locator("[name=by_other]").fill("365d")
    page.locator("#preview button").click()
    expect(page.get_by_role("alert")).to_contain_text(person.t("时长改过了", "the length was changed"))
    person.reads("每张 365 天", "each by 365 days")
    assert validity(site, fresh.ids[0]) == timedelta(days=30)
    page.locator("#preview button").click()
    person.is_headed("已延期 1 张", "Extended 1 card")
    assert validity(site, fresh.ids[0]) == timedelta(days=395)


def test_choosing_a_preset_clears_the_typed_duration(site: Site, enter: Enter) -> None:
    person = enter("/admin/cards/issue")
    page = person.page
    page.locator("[name=validity_other]").fill("45d")
    expect(page.locator("#validity-other")).to_be_checked()
    page.locator("label[for=validity-7d]").click()
    expect(page.locator("[name=validity_other]")).to_have_value("")
    person.press("发卡", "Issue", page.locator("main"))
    person.is_headed("已发出 1 张", "Issued 1 card")
    assert validity(site, page.locator("#keys").input_value()) == timedelta(days=7)


def test_a_link_in_a_mail_leads_through_the_log_in(site: Site, enter: Enter, hire: Hire, shop: Shop) -> None:
    """The browser keeps the session from the link (SameSite), and gives it to the log-in that is shown for it."""
    name = hire()
    person = enter("/admin/account", who=name)
    page = person.page
    page.goto(f"data:text/html,<a href='{site.url}/admin/card?id={shop.live}'>mail</a>")
    page.get_by_role("link", name="mail").click()
    page.wait_for_url("**/admin/login?next=**")
    with page.expect_request(lambda request: request.method == "POST") as posted:
        person.fill_in(name, PASSWORD)
    person.is_headed(shop.live, shop.live)
    assert "__Host-kadun_session=" in (posted.value.all_headers().get("cookie") or ""), "else this shows nothing"


def test_paging_by_keyboard_keeps_the_focus(enter: Enter, shop: Shop) -> None:
    person = enter(f"/admin/cards?batch={FESTIVAL}")
    page = person.page
    ways = person.t("下一页 ›", "Next ›"), person.t("« 首页", "« First")
    page.get_by_role("link", name=ways[0]).focus()
    page.keyboard.press("Enter")
    expect(person.rows).to_have_count(FESTIVAL_CARDS - 50)
    expect(page.get_by_role("link", name=ways[0])).to_have_count(0)
    expect(page.locator("#results")).to_be_focused()  # there is no further page
    page.get_by_role("link", name=ways[1]).focus()
    page.keyboard.press("Enter")
    expect(person.rows).to_have_count(50)
    expect(page.locator("#results")).to_be_focused()

    person.go("/admin/journal")  # three pages or more
    first = person.rows.first.inner_text()
    page.get_by_role("link", name=ways[0]).focus()
    page.keyboard.press("Enter")
    expect(person.rows.first).not_to_have_text(first, use_inner_text=True)
    expect(page.get_by_role("link", name=ways[0])).to_be_focused()


def test_screen_readers_announce_the_count_and_not_the_list(enter: Enter, shop: Shop) -> None:
    person = enter("/admin/cards")
    page = person.page
    listed = page.locator("#listed")
    listed.evaluate("(element) => { element.stays = true; }")
    for text, said in ((shop.live, "共 1 张"), ("没有这样的设备", "没有符合条件的记录"), (shop.frozen[0], "共 1 张")):
        page.locator("[name=q]").fill(text)
        page.keyboard.press("Enter")
        expect(listed).to_have_text(said)
    assert listed.evaluate("(element) => element.stays"), "only of one that stays is it told that its words change"
    for path in ("/admin/cards", "/admin/journal", "/admin/usage", f"/admin/card?id={shop.live}"):
        person.go(path)
        expect(page.locator("#results")).to_be_visible()
        expect(page.locator("[aria-live] table, [aria-live] ol")).to_have_count(0)


def test_a_stopped_form_can_be_sent_again_after_a_few_seconds(enter: Enter, shop: Shop) -> None:
    person = enter("/admin/account")
    page = person.page
    page.clock.install()
    person.go("/admin/cards/issue")
    sent: list[str] = []

    def stop(route: Route) -> None:  # as Esc does
        sent.append(route.request.method)
        route.abort("aborted")

    page.route("**/admin/cards/issue", stop)
    for seconds, times in ((0, 1), (1, 1), (5, 2), (1, 2)):
        page.clock.run_for(seconds * 1000)
        person.press("发卡", "Issue", page.locator("main"))
        expect(page.locator("form[data-sent]")).to_have_count(1)
        page.wait_for_function("() => true")  # what was sent was seen
        assert sent == ["POST"] * times
