"""The watch over the other browser tests reports what it should."""

import pytest
from playwright.sync_api import Page, Route

from tests.support.browser.visits import (
    SCREENSHOTS,
    Look,
    Reading,
    Troubles,
    Visit,
    assert_accessible,
    assert_fits,
    in_every_look,
)
from tests.support.service import wait_for

CSP = "default-src 'self'"
SCRIPTS = {"throws.js": "throw new Error('from the script')", "asks.js": "alert('from the script')"}


def serve(page: Page, html: str) -> None:
    """Show this page under the site's own address and a strict policy."""

    def answer(route: Route) -> None:
        headers = {"Content-Security-Policy": CSP, "Content-Type": "text/html; charset=utf-8"}
        route.fulfill(headers=headers, body=f"<!doctype html><html lang=zh><title>页</title><main>{html}</main>")

    page.route("**/page", answer)
    page.goto("/page")


def serve_script(route: Route) -> None:
    route.fulfill(content_type="text/javascript", body=SCRIPTS[route.request.url.rpartition("/")[2]])


@in_every_look
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
        ("<script src=/throws.js></script>", "exception: from the script"),
        ("<script src=/asks.js></script>", "dialog: from the script"),
    ],
)
def test_the_browser_watch_reports(visit: Visit, troubles: Troubles, html: str, seen: str) -> None:
    page = visit("/healthz")
    page.route("**/*.js", serve_script)
    serve(page, html)
    # The title is asked for since Playwright hears of the page only while it is asked something.
    wait_for(lambda: page.title() and any(seen in trouble for trouble in troubles.unexpected()))
    troubles.expect("")


def test_the_browser_watch_reports_requests_to_other_sites(visit: Visit, troubles: Troubles) -> None:
    page = visit("/healthz")
    page.route("https://example.com/**", lambda route: route.fulfill(body="x"))
    page.goto("https://example.com/x")
    assert "another site is asked: https://example.com/x" in troubles.unexpected()
    troubles.expect("another site")


def test_axe_runs_under_a_strict_policy_and_finds_what_is_serious(visit: Visit) -> None:
    page = visit("/healthz")
    serve(page, "<h1>好</h1>")
    assert_accessible(page)
    serve(page, "<h1>好</h1><input name=x>")
    with pytest.raises(AssertionError, match=r"label \(critical\)"):
        assert_accessible(page)


def test_content_too_wide_for_a_phone_is_reported(visit: Visit) -> None:
    page = visit("/healthz", Look("phone"))
    serve(page, "<meta name=viewport content=width=device-width><p>窄</p>")
    assert_fits(page)
    serve(page, "<meta name=viewport content=width=device-width><table width=900><td>宽</table>")
    with pytest.raises(AssertionError, match="px wide"):
        assert_fits(page)


def test_a_reading_keeps_faults_and_a_picture_named_after_the_look(visit: Visit, reading: Reading) -> None:
    picture = SCREENSHOTS / "page-phone-en-light.png"
    picture.unlink(missing_ok=True)
    page = visit("/healthz", Look("phone", "en", "light"))
    serve(page, "<meta name=viewport content=width=device-width><table width=900><td><input name=x></table>")
    reading(page, "page")
    too_wide, no_label = reading.faults
    assert "px wide" in too_wide
    assert "label (critical)" in no_label
    reading.faults.clear()
    assert picture.stat().st_size
    picture.unlink()
