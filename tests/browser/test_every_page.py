"""Every page of the console in each look; and `/card` as a customer's phone shows it."""

import re
from datetime import timedelta

from playwright.sync_api import expect

from app.runtime.clock import utc_now
from app.storage.models import Card
from tests.browser.conftest import Enter, Fresh
from tests.support.browser.console_pages import LANGUAGES, PICTURES, SEEN
from tests.support.browser.people import Person
from tests.support.browser.seeding import FESTIVAL, Shop, ask, opened
from tests.support.browser.visits import LOOKS, ROOT, Look, Reading, Site, Troubles, Visit, in_every_look
from tests.support.console.console_scene import paths
from tests.support.licence.in_force import wait_in_force
from tests.support.self_service import ALLOWED, set_terms
from tests.support.services.service import OPEN, wait_for

# Where those land who reload a form, or change its language.
LED_ON = {
    "/admin": "/admin/",
    "/admin/journal/export": "/admin/journal",
    **{f"/admin/cards/{name}": "/admin/cards" for name in ("apply", "confirm", "edit", "edit/apply", "export")},
    **{f"/admin/account/{name}": "/admin/account" for name in ("password", "sessions")},
    "/admin/account/two-step/remove": "/admin/account",
    **{path: "/admin/operators" for path in paths() if path.startswith("/admin/operator/")},
    **{path: "/admin/webhooks" for path in paths() if path.startswith("/admin/webhook/")},
}


def test_every_page_is_visited() -> None:
    pages = {path for path, access in paths().items() if "GET" in access}
    assert pages == {path for path, _way in SEEN.values()} | {"/admin/login", "/admin/static/{name}"} | LED_ON.keys()


def test_the_docs_show_the_pictures_that_are_made_for_them_and_there_are_no_others() -> None:
    made = {language: {picture.file(language) for picture in PICTURES} for language in LANGUAGES}
    for language, pictures in made.items():
        text = (ROOT / f"docs/console{'' if language == 'en' else '.zh-CN'}.md").read_text("utf-8")
        assert sorted(re.findall(r"\(images/([^)]+)\)", text)) == sorted(pictures)
    assert {file.name for file in (ROOT / "docs/images").glob("console-*")} == set().union(*made.values())


@in_every_look
def test_every_page_reads_well(enter: Enter, shop: Shop, strangers: str, reading: Reading, look: Look) -> None:
    person = enter("/admin/account", look)
    assert person.page.locator("html").get_attribute("lang") == person.t("zh-CN", "en")
    assert person.page.locator("html").get_attribute("data-bs-theme") == look.scheme
    for name, (path, way) in SEEN.items():
        way(person, shop)
        assert person.page.url.partition("?")[0].endswith(path)
        expect(person.page.locator("h1")).to_be_visible()
        reading(person.page, name)


@in_every_look
def test_an_outsider_sees_the_log_in(visit: Visit, shop: Shop, reading: Reading, look: Look) -> None:
    page = visit(f"/admin/cards?batch={FESTIVAL}&lang={look.language}", look)
    assert "/admin/login?next=" in page.url
    assert page.locator("html").get_attribute("lang") == ("en" if look.language == "en" else "zh-CN")
    reading(page, "login")


@in_every_look
def test_an_unknown_card_is_a_404_page(enter: Enter, troubles: Troubles, reading: Reading, look: Look) -> None:
    troubles.expect("status of 404")
    person = enter(f"/admin/card?id={'0' * 32}", look)
    person.is_headed("没有找到", "Not found")
    reading(person.page, "error")


def test_reloading_a_form_leads_to_its_page(enter: Enter) -> None:
    person = enter("/admin/account")
    for path, target in LED_ON.items():
        landed = person.page.request.get(path, ignore_https_errors=True)  # it knows nothing of what the browser trusts
        assert (landed.status, landed.url.endswith(target)) == (200, True), path


def test_a_long_name_does_not_break_the_short_ones_beside_it(enter: Enter, strangers: str) -> None:
    modules = enter("/admin/functions").page.locator("tbody td.module code")
    assert modules.evaluate_all("(all) => all.map((one) => one.getClientRects().length)") == [1, 1, 1]


def test_a_script_that_runs_would_be_seen(visit: Visit, troubles: Troubles) -> None:
    page = visit("/healthz")
    headers = {"Content-Security-Policy": "default-src 'self'", "Content-Type": "text/html"}
    page.route("**/page", lambda route: route.fulfill(headers=headers, body="<script>alert(1)</script>"))
    page.goto("/page")
    page.evaluate("alert(2)")
    for seen in ("CSP violation: script-src-elem inline", "dialog: 2"):
        # The title is asked for since Playwright hears of the page only while it is asked something.
        wait_for(lambda seen=seen: page.title() is not None and any(seen in one for one in troubles.unexpected()))
    troubles.expect("")


CONTACT = "微信 laowang-888，周一到周五 9:00–18:00 / WeChat laowang-888, weekdays"


@in_every_look
def test_a_customer_unbinds_and_renews(site: Site, visit: Visit, look: Look, reading: Reading, fresh: Fresh) -> None:
    own, new, _ = fresh.ids
    with opened(site) as database:
        set_terms(database, **ALLOWED, contact=CONTACT)
        wait_in_force(database.execute_sql)
    assert ask(site, own, f"pc of {own}", "192.0.2.1", OPEN) == "OK"
    # Of one address there may be few requests in a minute.
    headers = {"X-Test-Address": f"203.0.113.{LOOKS.index(look)}"}
    page = visit("/card", look, own=True, extra_http_headers=headers)
    customer = Person(page, look)
    customer.is_headed("卡密自助服务", "Your card")
    reading(page, "own-card")
    customer.field("卡密", "Card key").fill(own.lower())
    customer.press("查询", "Look up")
    customer.reads("使用中", "active")
    customer.reads("Asia/Shanghai (UTC+08:00)", "Asia/Shanghai (UTC+08:00)")
    customer.reads("微信 laowang-888", "WeChat laowang-888")
    reading(page, "own-card-shown")
    customer.press("解绑…", "Unbind…")
    customer.reads("解绑无法撤销", "This cannot be undone")
    reading(page, "own-card-unbind")
    customer.press("确认解绑", "Unbind")
    customer.reads("已解绑", "Unbound.")
    customer.reads("离线启动", "offline")
    customer.field("新卡密", "New card").fill(new)
    customer.press("续费…", "Renew…")
    customer.reads("续费无法撤销", "This cannot be undone")
    reading(page, "own-card-renew")
    customer.press("返回", "Back")
    customer.field("新卡密", "New card").fill(new)
    customer.press("续费…", "Renew…")
    customer.press("确认续费", "Renew")
    customer.reads("续费成功", "Renewed.")
    reading(page, "own-card-renewed")
    assert own not in page.url
    assert page.context.cookies() == []
    with opened(site):
        card = Card.get_by_id(own)
        assert Card.get_by_id(new).renewed_card_id == own
    assert timedelta(days=58) < card.expires_at - utc_now() < timedelta(days=59)
