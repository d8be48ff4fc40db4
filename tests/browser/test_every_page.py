"""Every page of the console in each look; and `/card` as a customer's phone shows it."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import expect

from app.runtime.clock import utc_now
from app.storage.models import Card
from tests.browser.conftest import Enter, Fresh
from tests.support.browser.seeding import FESTIVAL, LIVE, SELLER, SHOP, Shop, ask, opened
from tests.support.browser.visits import LOOKS, ROOT, Look, Person, Reading, Site, Troubles, Visit, in_every_look
from tests.support.console.console_scene import FILES, paths
from tests.support.licence.in_force import wait_in_force
from tests.support.services.service import OPEN
from tests.support.shop import ALLOWED, set_terms

Way = Callable[[Person, Shop], Any]


def at(address: str) -> Way:
    return lambda person, _shop: person.go(address)


def from_card(button: tuple[str, str], *heading: str) -> Way:
    def way(person: Person, shop: Shop) -> None:
        person.go(f"/admin/card?id={shop.live}").press(*button)
        person.is_headed(*heading)

    return way


def by_link(address: str, link: str, target: str) -> Way:
    def way(person: Person, _shop: Shop) -> None:
        person.go(address)
        person.page.locator(link).first.click()
        person.page.wait_for_url(target)

    return way


def to_import(person: Person, shop: Shop) -> None:
    person.go("/admin/cards/import")
    rows = [
        "卡密,有效期,批次,备注",
        f"{shop.unused[0]},月卡,老客户,续费",
        "ABC,30天,老客户,",
        "0" * 31 + "Z,永远,老客户,",
    ]
    content = "\n".join(rows).encode("gb18030")
    person.page.locator("#f-file").set_input_files({"name": "old.csv", "mimeType": "text/csv", "buffer": content})
    person.press("核对", "Check")
    expect(person.page.locator("#faults tbody tr")).to_have_count(3)


def to_export(person: Person, _shop: Shop) -> None:
    person.go(f"/admin/cards?batch={LIVE}").press("CSV", "CSV")
    person.page.wait_for_url("**/admin/cards/export**")


def to_two_step(person: Person, _shop: Shop) -> None:
    person.go("/admin/account/two-step")
    expect(person.page.locator("svg.qr")).to_be_visible()


def to_issued(person: Person, shop: Shop) -> None:
    person.go(f"/admin/cards/issued?{urlencode({'at': shop.issued_at.isoformat()})}")


def to_refusal(person: Person, shop: Shop) -> None:
    person.go(f"/admin/journal?kind=CLIENT_MISMATCH&card={shop.live}")
    person.page.locator("a.reference").last.click()
    person.page.wait_for_url("**/admin/refusal?**")


def from_refusal(zh: str, en: str, target: str) -> Way:
    def way(person: Person, shop: Shop) -> None:
        to_refusal(person, shop)
        person.follow(zh, en)
        person.page.wait_for_url(target)

    return way


TO_MOVE = from_refusal("换绑到发起请求的设备…", "Move the card to the requesting machine…", "**/admin/card/move?**")
TO_BLOCK = from_refusal("拉黑这台设备…", "Block this machine…", "**/admin/blocks/add?**")
TO_EDIT = from_card(("修改…", "Change…"), "修改批次、备注", "Change batch and note")
SIMPLE = ("sharing", "account", "operators", "webhooks", "programs", "settings", "blocks", "files", "functions")
SIMPLE += ("keys", "health")
# Under the name of its picture: where it is, and the way there.
SEEN: dict[str, tuple[str, Way]] = {
    **{name: (f"/admin/{name}", at(f"/admin/{name}")) for name in SIMPLE},
    "overview": ("/admin/", at("/admin/")),
    "cards": ("/admin/cards", at(f"/admin/cards?batch={LIVE}")),
    "card": ("/admin/card", lambda person, shop: person.go(f"/admin/card?id={shop.live}")),
    "refusal": ("/admin/refusal", to_refusal),
    "move": ("/admin/card/move", TO_MOVE),
    "confirm": ("/admin/cards/confirm", from_card(("冻结…", "Freeze…"), "冻结", "Freeze")),
    "edit": ("/admin/cards/edit", TO_EDIT),
    "done": ("/admin/cards/done", lambda person, shop: person.go(f"/admin/cards/done?form={shop.freeze_form}")),
    "export": ("/admin/cards/export", to_export),
    "issue": ("/admin/cards/issue", at("/admin/cards/issue")),
    "issued": ("/admin/cards/issued", to_issued),
    "import": ("/admin/cards/import", to_import),
    "journal": ("/admin/journal", at("/admin/journal?kind=CLIENT_MISMATCH")),
    "usage": ("/admin/usage", at("/admin/usage?function=批量改价")),
    "two-step": ("/admin/account/two-step", to_two_step),
    "operator": ("/admin/operator", at(f"/admin/operator?name={SELLER}")),
    "token": ("/admin/token", at(f"/admin/token?name={SHOP}")),
    "webhook": ("/admin/webhook", by_link("/admin/webhooks", "main tbody a", "**/admin/webhook?**")),
    "program": ("/admin/program", at("/admin/program?id=main")),
    "block": ("/admin/blocks/add", TO_BLOCK),
    "unblock": ("/admin/blocks/remove", by_link("/admin/blocks", "main tbody a.btn", "**/admin/blocks/remove?**")),
}
PICTURES = {
    (sight, language): ROOT / f"docs/images/console-{sight}{'' if language == 'en' else '.zh-CN'}.png"
    for sight in ("overview", "cards", "card")
    for language in ("zh", "en")
}
"""Of the docs, by what is seen and the language."""
# Where those land who reload a form, or change its language.
LED_ON = {
    "/admin": "/admin/",
    "/admin/program/remove": "/admin/programs",
    "/admin/programs/seal": "/admin/programs",
    "/admin/journal/export": "/admin/journal",
    **{f"/admin/cards/{name}": "/admin/cards" for name in ("apply", "confirm", "edit", "edit/apply", "export")},
    **{f"/admin/account/{name}": "/admin/account" for name in ("password", "sessions")},
    "/admin/account/two-step/remove": "/admin/account",
    **{path: "/admin/operators" for path in paths() if path.startswith("/admin/operator/")},
    **{path: "/admin/webhooks" for path in paths() if path.startswith("/admin/webhook/")},
}


def test_every_page_is_visited() -> None:
    pages = {path for path, access in paths().items() if "GET" in access}
    assert pages == {path for path, _way in SEEN.values()} | {"/admin/login", *FILES} | LED_ON.keys()


def test_the_docs_show_the_pictures_that_are_made_for_them_and_there_are_no_others() -> None:
    for language in ("zh", "en"):
        text = (ROOT / f"docs/console{'' if language == 'en' else '.zh-CN'}.md").read_text("utf-8")
        made = {file.name for (_, of), file in PICTURES.items() if of == language}
        assert sorted(re.findall(r"\(images/([^)]+)\)", text)) == sorted(made)
    assert set((ROOT / "docs/images").glob("console-*")) == set(PICTURES.values())


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
    page = visit("/card", look, extra_http_headers=headers)
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
