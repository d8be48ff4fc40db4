"""Texts that would run if they could: htmx, Chart.js and the templates meet them, and they stay texts.

A dialog, a script, an image from nowhere: `troubles` sees each. The walk shows that pages with them fit and read well.
"""

from playwright.sync_api import Page, expect

from app.services.formatting import escaped
from tests.browser.conftest import Enter
from tests.support.browser.hostile_texts import MARKUP, TURNED
from tests.support.browser.visits import Troubles, Visit
from tests.support.service import wait_for


def labels_of(page: Page, chart: str) -> list[str]:
    """What Chart.js writes beside the bars of a chart, or into its legend."""
    drawn = page.get_by_role("img", name=chart, exact=True).evaluate(
        "(canvas) => [Chart.getChart(canvas).data].flatMap((d) => [...d.labels, ...d.datasets.map((set) => set.label)])"
    )
    return [str(label) for label in drawn]


def test_charts_draw_hostile_texts(enter: Enter, strangers: str) -> None:
    person = enter("/admin/")
    assert escaped(TURNED) in labels_of(person.page, "最近 14 天最常用的功能")
    assert MARKUP in labels_of(person.page, "卡密最多的批次")
    for chart in ("最近 14 天最常用的功能", "卡密最多的批次"):
        person.page.get_by_role("img", name=chart, exact=True).hover()  # and into a tooltip
    person.go(f"/admin/card?id={strangers}")
    assert escaped(TURNED) in labels_of(person.page, "最近 30 天的使用")


def test_lists_find_hostile_texts_by_htmx(enter: Enter, strangers: str) -> None:
    person = enter("/admin/cards")
    page = person.page
    page.locator("[name=q]").fill(TURNED)
    page.keyboard.press("Enter")
    expect(person.rows).to_have_count(1)
    for text in (strangers, MARKUP, escaped(TURNED)[:23]):
        expect(person.rows).to_contain_text(text)
    page.locator("summary").click()
    page.locator("[name=q]").fill("")
    page.locator("[name=batch]").fill(MARKUP)
    page.keyboard.press("Enter")
    expect(person.rows).to_have_count(20)

    person.go("/admin/journal?kind=FUNCTION_FAILED")
    page.locator("summary", has_text="更多条件").click()
    page.locator("[name=function]").fill(TURNED)
    page.keyboard.press("Enter")
    expect(person.rows).to_have_count(1)
    page.locator("#results summary").click()
    expect(page.locator("pre.traceback")).to_contain_text(escaped(TURNED))


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
