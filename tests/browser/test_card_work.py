"""A vendor's daily work: issuing, finding and changing cards, on desktop and phone, in both languages."""

from datetime import timedelta

from playwright.sync_api import expect

from app.domain.codes import Code
from app.domain.licence.policy import OPEN_PROGRAM as OPEN
from app.runtime.clock import utc_now
from app.services.cards.issuing import Issuing
from tests.browser.conftest import Enter, Fresh
from tests.support.browser.seeding import Shop, ask, opened
from tests.support.browser.visits import Look, Reading, Site, in_two_looks
from tests.support.console.console import PASSWORD

pytestmark = in_two_looks


def test_cards_are_issued_copied_and_downloaded(enter: Enter, look: Look) -> None:
    person = enter("/admin/cards/issue", look)
    page = person.page
    page.get_by_text(person.t("其他", "Other"), exact=True).click()
    page.locator("[name=validity_other]").fill("45d")
    person.field("数量", "Quantity").fill("4")
    batch = f"双十二 {look}"
    person.field("批次（可不填）", "Batch (optional)").fill(batch)
    person.field("备注（可不填）", "Note (optional)").fill("微信")
    person.button("发卡", "Issue", page.locator("main")).dblclick()  # as some do; it is one order all the same
    person.is_headed("已发出 4 张", "Issued 4 cards")
    keys = page.locator("#keys").input_value().split("\n")
    assert len(set(keys)) == 4

    person.press("复制全部", "Copy all")
    expect(page.locator("#toast")).to_have_text(person.t("已复制", "Copied"))
    assert page.evaluate("navigator.clipboard.readText()").split() == keys
    link = page.get_by_role("link")
    assert person.download(link.filter(has_text="TXT")).split() == keys
    rows = person.download_rows(link.filter(has_text="CSV"))
    assert [row["id"] for row in rows] == keys
    assert {(row["batch"], row["note"], row["validity_seconds"]) for row in rows} == {(batch, "微信", str(45 * 86_400))}
    person.follow("再发一批", "Issue more")
    expect(person.field("批次（可不填）", "Batch (optional)")).to_have_value(batch)
    person.go(f"/admin/cards?batch={batch}")
    expect(person.rows).to_have_count(4)


def test_filters_are_in_the_url_and_the_back_button_works(enter: Enter, shop: Shop, look: Look) -> None:
    person = enter("/admin/cards", look)
    page = person.page
    page.locator("label[for=status-frozen]").click()
    page.wait_for_url("**/admin/cards?status=frozen")
    expect(person.rows).to_have_count(len(shop.frozen))
    page.locator("summary").click()
    person.field("备注包含", "Note contains").fill("没有")
    person.field("备注包含", "Note contains").blur()
    person.reads("没有符合条件的记录", "No results")
    assert person.query == {"status": "frozen", "note": "没有"}
    page.go_back()
    expect(person.rows).to_have_count(len(shop.frozen))
    page.go_back()
    expect(page.locator("#status-")).to_be_checked()
    page.locator("summary").click()
    person.field("到期", "Expiry").select_option("7d")
    page.wait_for_url("**/admin/cards?expires=7d")
    expect(person.rows.first.locator("time").first).to_be_visible()
    person.follow("清空", "Clear")
    page.wait_for_url("**/admin/cards")


def test_many_are_frozen_and_that_is_undone(enter: Enter, fresh: Fresh, look: Look) -> None:
    person = enter(f"/admin/cards?batch={fresh.batch}", look)
    page = person.page
    before = page.url
    chosen = page.locator("[data-count=id]")
    expect(chosen).to_have_text("0")
    expect(person.button("冻结", "Freeze")).to_be_disabled()
    page.get_by_text(person.t("全选本页", "All on this page")).click()
    expect(chosen).to_have_text("3")
    person.press("复制所选", "Copy selected")
    expect(page.locator("#toast")).to_have_text(person.t("已复制", "Copied"))
    assert sorted(page.evaluate("navigator.clipboard.readText()").split()) == sorted(fresh.ids)
    page.locator(f"input[value='{fresh.ids[0]}']").uncheck()
    expect(chosen).to_have_text("2")
    page.locator(f"input[value='{fresh.ids[0]}']").check()
    person.press("冻结", "Freeze")
    person.reads("将冻结 3 张", "Freeze 3 cards")
    person.reads("可以撤销", "Can be undone")
    person.press("冻结 3 张", "Freeze 3 cards")
    person.is_headed("已冻结 3 张", "Frozen 3 cards")
    person.press("撤销（解冻）", "Undo (Unfreeze)")
    person.is_headed("已解冻 3 张", "Unfrozen 3 cards")
    person.follow("返回", "Back")
    page.wait_for_url(before)
    expect(page.locator(".badge.state-unused")).to_have_count(3)


def test_the_batch_of_many_is_changed_by_typing_it(enter: Enter, fresh: Fresh, look: Look) -> None:
    person = enter(f"/admin/cards?batch={fresh.batch}", look)
    page = person.page
    page.get_by_text(person.t("全选本页", "All on this page")).click()
    person.press("修改批次、备注", "Change batch, note")
    person.is_headed("修改批次、备注 · 3 张", "Change batch and note · 3 cards")
    expect(page.locator("[name=batch]")).to_have_value(fresh.batch)
    page.locator("[name=note]").fill("老客户")
    expect(page.locator("#change-note")).to_be_checked()
    person.press("保存", "Save")
    person.is_headed("已修改 3 张", "Changed 3 cards")
    person.follow("返回", "Back")
    expect(person.rows.filter(has_text="老客户")).to_have_count(3)


def test_more_than_a_hundred_cards_are_extended_with_the_password(
    site: Site, enter: Enter, look: Look, reading: Reading
) -> None:
    with opened(site) as database:
        Issuing(database, "tester", utc_now).issue(101, timedelta(days=30), f"百张 {look}")
    person = enter(f"/admin/cards?batch=百张 {look}&size=500", look)
    page, password = person.page, person.page.locator("[name=own_password]")
    page.get_by_text(person.t("全选本页", "All on this page")).click()
    person.press("延期", "Extend")
    person.reads("一次更改超过 100 张", "More than 100 cards at once")
    page.locator("label[for=by-7d]").click()
    person.reads("每张 7 天", "each by 7 days")
    password.fill(PASSWORD)
    password.blur()  # brings no other preview, which would have no password
    expect(password).to_have_value(PASSWORD)
    reading(page, "confirm-many")  # after the last preview: Chromium's pictures leave `style=""` on fields with a caret
    person.press("延期 101 张 · 7 天", "Extend 101 cards · 7 days")
    person.is_headed("已延期 101 张", "Extended 101 cards")


def test_a_pasted_message_leads_to_its_refusal(
    enter: Enter, fresh: Fresh, site: Site, look: Look, reading: Reading
) -> None:
    card_id, machines = fresh.ids[0], (f"old {fresh.batch}", f"new {fresh.batch}")
    assert ask(site, card_id, machines[0], "198.51.100.3", OPEN) == Code.OK
    assert ask(site, card_id, machines[1], "203.0.113.99", OPEN) == Code.CLIENT_MISMATCH
    person = enter(f"/admin/journal?card={card_id}&kind=CLIENT_MISMATCH", look)
    reference = person.page.locator("a.reference").inner_text()
    person.go("/admin/cards")
    box = person.page.locator("input[name=q]")
    box.fill(f"卡密已绑定其他设备(参考号 {reference})")
    box.press("Enter")
    person.is_headed(f"参考号 {reference}", f"Reference {reference}")
    reading(person.page, "refusal-mismatch")
