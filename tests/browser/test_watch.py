"""The watch over the other browser tests reports what it should."""

from playwright.sync_api import Page, Route

from tests.support.browser.visits import LOOKS, Reading, Troubles, Visit
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


SEEN = {
    "<script>document.title = 'inline'</script>": "CSP violation: script-src-elem inline",
    "<p onclick='x()'>x</p>": "CSP violation: script-src-attr inline",
    "<p style='color: red'>x</p>": "CSP violation: style-src-attr inline",
    "<img alt=x src=https://example.com/x.png>": "CSP violation: img-src https://example.com/x.png",
    "<img alt=x src=/nowhere.png>": "status of 404",
    "<script src=/throws.js></script>": "exception: from the script",
    "<script src=/asks.js></script>": "dialog: from the script",
}


def test_the_watch_reports_what_no_page_may_cause(visit: Visit, troubles: Troubles) -> None:
    page = visit("/healthz")
    page.route("**/*.js", serve_script)
    for html, seen in SEEN.items():
        serve(page, html)
        # The title is asked for since Playwright hears of the page only while it is asked something.
        wait_for(lambda seen=seen: page.title() and any(seen in one for one in troubles.unexpected()))
    page.route("https://example.com/**", lambda route: route.fulfill(body="x"))
    page.goto("https://example.com/x")
    assert "another site is asked: https://example.com/x" in troubles.unexpected()
    troubles.expect("")


def test_a_reading_reports_what_is_too_wide_or_has_no_label(visit: Visit, reading: Reading) -> None:
    page = visit("/healthz", LOOKS[2])
    width = "<meta name=viewport content=width=device-width>"
    serve(page, f"{width}<h1>好</h1>")
    reading(page, "page")
    assert reading.faults == []
    serve(page, f"{width}<table width=900><td><input name=x></table>")
    reading(page, "page")
    too_wide, no_label = reading.faults
    assert "px wide" in too_wide
    assert "label (critical)" in no_label
    reading.faults.clear()
