"""A vendor's rarer work: log-ins, a seller's pages, webhooks, terms and imports, in two looks."""

from urllib.parse import urlencode

from playwright.sync_api import expect

from tests.browser.conftest import Enter, Hire
from tests.support.browser.seeding import HOOK, SELLER, Shop
from tests.support.browser.visits import Look, Person, Reading, Troubles, Visit, in_two_looks
from tests.support.console.console import PASSWORD

pytestmark = in_two_looks


def test_a_log_in_leads_to_the_requested_page(
    visit: Visit, hire: Hire, troubles: Troubles, reading: Reading, look: Look
) -> None:
    troubles.expect("status of 403")
    name = hire()
    person = Person(visit(f"/admin/cards?status=frozen&lang={look.language}", look), look)
    person.fill_in(name, "not the password")
    expect(person.page.get_by_role("alert")).to_be_visible()
    expect(person.page.locator("#name")).to_have_value(name)
    reading(person.page, "login-refused")
    person.fill_in(name, PASSWORD)
    person.page.wait_for_url("**/admin/cards?status=frozen**")
    person.press("退出", "Log out")
    person.page.wait_for_url("**/admin/login")
    person.go("/admin/cards")
    assert "/admin/login" in person.page.url


def test_a_seller_sees_what_a_seller_may_do(
    enter: Enter, shop: Shop, troubles: Troubles, reading: Reading, look: Look
) -> None:
    troubles.expect("status of 403")
    person = enter("/admin/", look, SELLER)
    page = person.page
    reading(page, "seller-overview")
    expect(page.locator("header nav a")).to_have_count(5)  # overview, cards, issue, journal, sharing
    person.go(f"/admin/card?id={shop.live}")
    expect(page.locator("main button[name=action]")).to_have_count(0)
    reading(page, "seller-card")
    person.go("/admin/keys").is_headed("无权访问", "No access")
    reading(page, "seller-refused")
    person.go("/admin/cards/issue")
    person.press("发卡", "Issue", page.locator("main"))
    person.is_headed("已发出 1 张", "Issued 1 card")
    assert len(person.download(page.get_by_role("link").filter(has_text="TXT")).split()) == 1


def test_a_webhook_is_added_and_a_message_sent_again(enter: Enter, hire: Hire, reading: Reading, look: Look) -> None:
    name = f"hook {hire()}"
    person = enter("/admin/webhooks", look)
    person.field("名称", "Name").fill(name)
    person.page.locator("[name=url]").fill("https://shop.invalid/hook")
    person.page.get_by_role("checkbox").first.check()
    person.page.locator("[name=own_password]").fill(PASSWORD)
    person.press("添加", "Add")
    expect(person.page.locator("#secret")).to_contain_text("whsec_")
    person.go(f"/admin/webhook?{urlencode({'name': HOOK})}")
    reading(person.page, "webhook-again")
    person.page.get_by_role("button", name=person.t("重新发送", "Send again")).first.click()
    person.reads("将在几秒内重新发送", "It is sent again within seconds")


def test_terms_are_refused_and_changed(enter: Enter, troubles: Troubles, reading: Reading, look: Look) -> None:
    troubles.expect("status of 400")
    person = enter("/admin/settings", look)
    page = person.page
    changes = page.locator("[name=changes_per_day]")
    changes.fill("2")
    contact, own_password = page.locator("[name=contact]"), page.locator("[name=own_password]")
    contact.fill("QQ 12345")
    page.locator("[name=minimum_version]").fill("2.0")
    page.locator("[name=latest_version]").fill("1.10")
    own_password.fill(PASSWORD)
    person.press("保存", "Save", page.locator("main form"))
    expect(page.locator("#wrong-minimum_version")).to_be_visible()
    expect(contact).to_have_value("QQ 12345")
    reading(page, "settings-refused")
    for name, text in (("minimum_version", "1.9"), ("changes_per_day", "")):
        page.locator(f"[name={name}]").fill(text)
    own_password.fill(PASSWORD)
    own_password.press("Enter")
    person.reads("已保存", "Saved")
    expect(contact).to_have_value("QQ 12345")
    for name in ("contact", "minimum_version", "latest_version"):
        page.locator(f"[name={name}]").fill("")
    own_password.fill(PASSWORD)
    person.press("保存", "Save", page.locator("main form"))
    person.reads("已保存", "Saved")


def test_a_faulty_file_is_mended_and_imported(enter: Enter, look: Look, reading: Reading) -> None:
    person = enter("/admin/cards/import", look)
    page = person.page
    mine = f"{look.device[0]}{look.language[0]}".upper()
    old = [f"{number:029}{mine}{letter}" for number, letter in ((1, "A"), (2, "B"))]

    def choose(*rows: str) -> None:
        content = "\r\n".join(("卡密,有效期,批次", *rows)).encode("gb18030")  # as Excel in China writes it
        page.locator("#f-file").set_input_files({"name": "旧卡.csv", "mimeType": "text/csv", "buffer": content})
        person.press("核对", "Check")

    with page.expect_download() as template:
        page.get_by_role("link", name="XLSX").click()
    assert template.value.suggested_filename == "kadun-import.xlsx"
    choose(f"{old[0]},月卡,旧卡-{look}", f"{old[1]},很久,旧卡-{look}", "短,月卡,")
    person.reads("2 处有误", "2 errors")
    expect(page.locator("#faults tbody tr")).to_have_count(2)
    expect(page.locator("#faults tbody tr").first).to_contain_text("3")
    expect(page.locator("#preview button")).to_have_count(0)
    choose(f"{old[0]},月卡,旧卡-{look}", f"{old[1]},年卡,旧卡-{look}")
    expect(person.button("导入 2 张", "Import 2 cards")).to_be_visible()
    reading(page, "import-checked")
    person.press("导入 2 张", "Import 2 cards")
    person.is_headed("已导入 2 张", "Imported 2 cards")
    reading(page, "imported")
    page.get_by_role("link", name=f"旧卡-{look}").click()
    expect(person.rows).to_have_count(2)
