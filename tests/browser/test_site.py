"""The site before there is an operator; and that the watch over every other test here does see what it is to see."""

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Check, Shot
from tests.browser.visits import LOOKS, SCREENSHOTS, Look, Site, Troubles, Visit
from tests.service import wait_for

CSP = "default-src 'self'"
THROWS = "throw new Error('from the script')"


def serve(page: Page, html: str) -> None:
    """Show this page under the site's own address and a strict policy."""

    def answer(route: Route) -> None:
        headers = {"Content-Security-Policy": CSP, "Content-Type": "text/html; charset=utf-8"}
        route.fulfill(headers=headers, body=f"<!doctype html><html lang=zh><title>页</title><main>{html}</main>")

    page.route("**/page", answer)
    page.goto("/page")


def test_the_service_answers_a_browser(site: Site, visit: Visit) -> None:
    page = visit("/healthz")
    assert page.url == f"{site.url}/healthz"
    expect(page.locator("body")).to_contain_text("ok")


@pytest.mark.parametrize("path", ["/admin", "/admin/", "/admin/login", "/admin/static/bootstrap.min.css"])
def test_without_an_operator_there_is_no_console(site: Site, path: str) -> None:
    assert site.gateway.ask("GET", path).status == 404


def test_a_browser_without_an_operator_sees_nothing_either(visit: Visit, troubles: Troubles) -> None:
    troubles.expect("status of 404")
    expect(visit("/admin/").locator("body")).to_contain_text("NOT_FOUND")


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_a_visitor_looks_as_asked(visit: Visit, look: Look) -> None:
    page = visit("/healthz", look)
    assert page.evaluate("navigator.language")[:2] == look.language
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is (look.scheme == "dark")
    assert page.evaluate("matchMedia('(pointer: coarse)').matches") is (look.device == "phone")


@pytest.mark.parametrize(
    ("html", "seen"),
    [
        ("<script>document.title = 'inline'</script>", "CSP violation: script-src-elem inline"),
        ("<p onclick='x()'>x</p>", "CSP violation: script-src-attr inline"),
        ("<p style='color: red'>x</p>", "CSP violation: style-src-attr inline"),
        ("<img alt=x src=https://example.com/x.png>", "CSP violation: img-src https://example.com/x.png"),
        ("<img alt=x src=/nowhere.png>", "status of 404"),
        ("<script src=/script.js></script>", "exception: from the script"),
    ],
)
def test_the_watch_sees(visit: Visit, troubles: Troubles, html: str, seen: str) -> None:
    page = visit("/healthz")
    page.route("**/script.js", lambda route: route.fulfill(content_type="text/javascript", body=THROWS))
    serve(page, html)
    # The title is asked for since Playwright hears of the page only while it is asked something.
    wait_for(lambda: page.title() and any(seen in trouble for trouble in troubles.unexpected()))
    troubles.expect("")


def test_the_watch_sees_who_asks_another_site(visit: Visit, troubles: Troubles) -> None:
    page = visit("/healthz")
    page.route("https://example.com/**", lambda route: route.fulfill(body="x"))
    page.goto("https://example.com/x")
    assert "another site is asked: https://example.com/x" in troubles.unexpected()
    troubles.expect("another site")


def test_axe_runs_under_a_strict_policy_and_finds_what_is_serious(visit: Visit, axe: Check) -> None:
    page = visit("/healthz")
    serve(page, "<h1>好</h1>")
    axe(page)
    serve(page, "<h1>好</h1><input name=x>")
    with pytest.raises(AssertionError, match=r"label \(critical\)"):
        axe(page)


def test_what_is_too_wide_for_a_phone_is_found(visit: Visit, fits: Check) -> None:
    page = visit("/healthz", Look("phone"))
    serve(page, "<meta name=viewport content=width=device-width><p>窄</p>")
    fits(page)
    serve(page, "<meta name=viewport content=width=device-width><table width=900><td>宽</table>")
    with pytest.raises(AssertionError, match="px wide"):
        fits(page)


def test_a_picture_is_named_after_how_the_page_looked(visit: Visit, shot: Shot) -> None:
    picture = SCREENSHOTS / "healthz-phone-en-dark.png"
    picture.unlink(missing_ok=True)
    shot(visit("/healthz", Look("phone", "en", "dark")), "healthz")
    assert picture.stat().st_size
    picture.unlink()
