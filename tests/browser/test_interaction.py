"""Interaction details: hurried input, changed choices, links from elsewhere, focus, forms sent again."""

from datetime import timedelta
from urllib.parse import quote, urlsplit

from playwright.sync_api import Request, Route, expect

from app.storage.models import Card
from tests.browser.conftest import Enter, Fresh, Hire
from tests.support.browser.seeding import FESTIVAL, FESTIVAL_CARDS, Shop, opened
from tests.support.browser.visits import Site, Troubles
from tests.support.console.console import PASSWORD


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


def test_a_search_that_takes_long_says_so(enter: Enter) -> None:
    page = enter("/admin/cards").page
    held: list[Route] = []
    page.route("**/admin/cards?q=*", lambda route: held.append(route))  # noqa: PLW0108  # Playwright marks it
    page.locator("[name=q]").fill("nothing")
    page.keyboard.press("Enter")
    expect(page.locator(".working")).to_be_visible()
    while not held:  # the page shows it before the request comes here
        page.wait_for_timeout(10)
    held[0].continue_()
    expect(page.locator(".working")).to_be_hidden()


def test_a_search_is_one_request(enter: Enter, shop: Shop) -> None:
    person = enter("/admin/cards")
    page = person.page
    asked: list[str] = []

    def note(request: Request) -> None:
        where = urlsplit(request.url)
        if where.path == "/admin/cards":
            asked.append(where.query)

    page.on("request", note)
    page.locator("[name=q]").fill(shop.live)
    person.press("搜索", "Search")
    expect(person.rows).to_have_count(1)
    page.locator("[name=q]").fill("")
    page.keyboard.press("Enter")
    expect(person.rows).not_to_have_count(1)
    page.locator("summary").click()
    page.locator("[name=note]").fill("没有")
    page.keyboard.press("Enter")
    person.reads("没有符合条件的记录", "No results")
    page.locator("label[for=status-frozen]").click()
    page.wait_for_url("**status=frozen**")
    nothing = quote("没有")
    assert asked == [f"q={shop.live}", "", f"note={nothing}", f"status=frozen&note={nothing}"]


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
    person = enter("/admin/account", own=True)  # whose clock goes as it is told
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
