"""Texts that would run if they could: htmx, Chart.js and the templates meet them, and they stay texts.

A dialog, a script, an image from nowhere: `troubles` sees each. The walk shows that pages with them fit and read well.
"""

from playwright.sync_api import Page, expect

from app.services.formatting import escaped
from tests.browser.conftest import Enter
from tests.support.browser.hostile_texts import FILE, MARKUP, TURNED, Strangers
from tests.support.browser.visits import Troubles


def labels_of(page: Page, chart: str) -> list[str]:
    """What Chart.js writes beside the bars of a chart, or into its legend."""
    drawn = page.get_by_role("img", name=chart, exact=True).evaluate(
        "(canvas) => [Chart.getChart(canvas).data].flatMap((d) => [...d.labels, ...d.datasets.map((set) => set.label)])"
    )
    return [str(label) for label in drawn]


def test_charts_draw_hostile_texts(enter: Enter, strangers: Strangers) -> None:
    person = enter("/admin/")
    assert escaped(TURNED) in labels_of(person.page, "最近 14 天最常用的功能")
    assert MARKUP in labels_of(person.page, "卡密最多的批次")
    for chart in ("最近 14 天最常用的功能", "卡密最多的批次"):
        person.page.get_by_role("img", name=chart, exact=True).hover()  # and into a tooltip
    person.go(f"/admin/card?id={strangers.card}")
    assert escaped(TURNED) in labels_of(person.page, "最近 30 天的使用")


def test_lists_find_hostile_texts_by_htmx(enter: Enter, strangers: Strangers) -> None:
    person = enter("/admin/cards")
    page = person.page
    page.locator("[name=q]").fill(TURNED)
    page.keyboard.press("Enter")
    expect(person.rows).to_have_count(1)
    for text in (strangers.card, MARKUP, escaped(TURNED)[:23]):
        expect(person.rows).to_contain_text(text)
    page.locator("summary").click()
    page.locator("[name=q]").fill("")
    page.locator("[name=batch]").fill(strangers.batch)
    page.keyboard.press("Enter")
    expect(person.rows).to_have_count(20)

    person.go("/admin/journal?kind=FUNCTION_FAILED")
    page.locator("summary", has_text="更多条件").click()
    page.locator("[name=function]").fill(TURNED)
    page.keyboard.press("Enter")
    expect(person.rows).to_have_count(1)
    page.locator("#results summary").click()
    expect(page.locator("pre.traceback")).to_contain_text(escaped(TURNED))


def test_forms_and_previews_show_hostile_texts_again(enter: Enter, strangers: Strangers, troubles: Troubles) -> None:
    troubles.expect("status of 400")
    person = enter("/admin/cards/issue")
    page = person.page
    for name in ("validity_other", "batch", "note"):
        page.locator(f"[name={name}]").fill(MARKUP)
    person.press("发卡", "Issue", page.locator("main"))
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("[name=validity_other]")).to_have_value(MARKUP[:40])  # what the field takes
    for name in ("batch", "note"):
        expect(page.locator(f"[name={name}]")).to_have_value(MARKUP)

    person.go("/admin/cards/import")
    quoted = MARKUP.replace('"', '""')
    content = f'id,validity,batch,"{quoted}"\n{0:032},30d,"{quoted}",\n"{quoted}","{quoted}",,\n'.encode()
    page.locator("#f-file").set_input_files({"name": f"{FILE}.csv", "mimeType": "text/csv", "buffer": content})
    person.press("核对", "Check")
    person.reads("1 行有误", "1 lines are wrong")
    expect(page.locator("#preview")).to_contain_text(MARKUP)


def test_a_long_name_does_not_break_the_short_ones_beside_it(enter: Enter, strangers: Strangers) -> None:
    modules = enter("/admin/functions").page.locator("tbody td.module code")
    assert modules.evaluate_all("(all) => all.map((one) => one.getClientRects().length)") == [1, 1, 1]


def test_hostile_names_of_operators_are_shown(enter: Enter, strangers: Strangers) -> None:
    person = enter("/admin/operators")
    for row in person.page.locator("tr", has_text=MARKUP).all():
        row.get_by_role("link").first.click()
        expect(person.page.locator("h1")).to_contain_text(MARKUP)
        person.page.go_back()
    seller = enter("/admin/account", who=MARKUP)
    expect(seller.page.locator("h1")).to_contain_text(MARKUP)
    expect(seller.page.locator("header .account")).to_have_text(MARKUP)
