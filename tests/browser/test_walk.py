"""Every page, seen at desktop and phone width, in both languages, light and dark; kept as pictures."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from playwright.sync_api import expect

from app.console.routes import pages
from tests.browser import test_people, test_selling
from tests.browser.conftest import Check, Enter, Shot
from tests.browser.people import Person
from tests.browser.seeding import FESTIVAL, LIVE, SELLER, SHOP, Shop
from tests.browser.visits import LOOKS, MORE_LOOKS, Look, Site, Troubles, Visit, assert_walked
from tests.functions_service import FunctionsService

FUNCTIONS = '''
from typing import Annotated, Any
import msgspec
from app.functions import Caller, core_function

class Prices(msgspec.Struct):
    shop: str
    percent: Annotated[int, msgspec.Meta(ge=-90, le=500)]
    rounded: bool = True

@core_function("批量改价")
def change_prices(arguments: Prices, caller: Caller) -> object:
    """按百分比调整店铺内全部商品的价格。"""
    return {"changed": 0}

@core_function("图片去水印")
def clean(arguments: dict[str, Any], caller: Caller) -> object:
    """去除商品主图上的水印，返回处理后的图片。"""
    return {}
'''

Way = Callable[[Person, Shop], Any]


def at(address: str) -> Way:
    return lambda person, _shop: person.go(address)


def to_confirm(person: Person, shop: Shop) -> None:
    person.go(f"/admin/card?id={shop.live}").press("冻结…", "Freeze…")
    person.is_headed("冻结", "Freeze")


def to_issued(person: Person, _shop: Shop) -> None:
    person.go("/admin/cards/issue")
    person.page.locator("main li", has_text=LIVE).get_by_role("link").click()
    person.is_headed("已发出", "Issued")


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
    expect(person.page.locator("#preview tbody tr")).to_have_count(3)


def to_done(person: Person, shop: Shop) -> None:
    person.page.goto(f"/admin/cards/done?at={shop.frozen_at.isoformat().replace('+', '%2B')}")
    person.is_headed("已冻结 3 张", "Frozen 3 cards")


# Every page that has something to show, under the name of its picture.
SEEN: dict[str, tuple[str, Way]] = {
    "overview": ("/admin/", at("/admin/")),
    "cards": ("/admin/cards", at(f"/admin/cards?batch={LIVE}")),
    "card": ("/admin/card", lambda person, shop: person.go(f"/admin/card?id={shop.live}")),
    "confirm": ("/admin/cards/confirm", to_confirm),
    "done": ("/admin/cards/done", to_done),
    "issue": ("/admin/cards/issue", at("/admin/cards/issue")),
    "issued": ("/admin/cards/issued", to_issued),
    "import": ("/admin/cards/import", to_import),
    "journal": ("/admin/journal", at("/admin/journal?kind=CLIENT_MISMATCH")),
    "sharing": ("/admin/sharing", at("/admin/sharing")),
    "usage": ("/admin/usage", at("/admin/usage?function=批量改价")),
    "account": ("/admin/account", at("/admin/account")),
    "two-step": ("/admin/account/two-step", at("/admin/account/two-step")),
    "operators": ("/admin/operators", at("/admin/operators")),
    "operator": ("/admin/operator", at(f"/admin/operator?name={SELLER}")),
    "token": ("/admin/token", at(f"/admin/token?name={SHOP}")),
    "files": ("/admin/files", at("/admin/files")),
    "functions": ("/admin/functions", at("/admin/functions")),
    "keys": ("/admin/keys", at("/admin/keys")),
    "health": ("/admin/health", at("/admin/health")),
}
SHOWN = {"overview", "cards", "card", "confirm", "issue", "import", "journal", "sharing"}  # in docs/console.md
# Where those land who reload a form, or change its language.
LED_ON = {
    "/admin": "/admin/",
    "/admin/cards/confirm": "/admin/cards",
    "/admin/cards/apply": "/admin/cards",
    "/admin/account/password": "/admin/account",
    "/admin/account/sessions": "/admin/account",
    "/admin/account/two-step/remove": "/admin/account",
    "/admin/operator/role": "/admin/operators",
    "/admin/operator/password": "/admin/operators",
    "/admin/operator/two-step": "/admin/operators",
    "/admin/operator/remove": "/admin/operators",
}
SEEN_METHODS = {("POST" if path == "/admin/cards/confirm" else "GET", path) for path, _way in SEEN.values()}
WALKED = SEEN_METHODS | {("GET", path) for path in (*LED_ON, "/admin/login", "/admin/static/{name}")}


def test_no_page_and_no_action_is_forgotten() -> None:
    nobody = cast("Any", None)
    there = {(method, path) for path, page in pages(nobody, nobody) for method in page.access}
    assert there == WALKED | test_selling.WALKED | test_people.WALKED


@pytest.fixture(scope="module", autouse=True)
def _house(site: Site, shop: Shop) -> Iterator[None]:
    """Files and functions, as a vendor has them."""
    folder = site.service.folder
    for name, size, batches in (("词库-2026春.dat", 2_400_000, ()), ("企业版模板.zip", 730_000, ("企业客户",))):
        (folder / name).write_bytes(bytes(size))
        site.cardctl("file", "add", str(folder / name), *(word for batch in batches for word in ("--batch", batch)))
    functions = FunctionsService(folder)
    (functions.modules / "shop.py").write_text(FUNCTIONS)
    with functions:
        yield


@pytest.mark.parametrize("look", [*LOOKS, *MORE_LOOKS], ids=str)
def test_every_page_reads_well(enter: Enter, shop: Shop, axe: Check, fits: Check, shot: Shot, look: Look) -> None:
    person = enter("/admin/", look)
    assert person.page.locator("html").get_attribute("lang") == person.t("zh-CN", "en")
    assert person.page.locator("html").get_attribute("data-bs-theme") == look.scheme
    faults = []
    for name, (path, way) in SEEN.items():
        if look in MORE_LOOKS and name not in SHOWN:
            continue
        way(person, shop)
        assert person.page.url.partition("?")[0].endswith(path)
        expect(person.page.locator("h1")).to_be_visible()
        for check in () if look in MORE_LOOKS else (fits, axe):  # pictures alone
            try:
                check(person.page)
            except AssertionError as fault:
                faults.append(str(fault))
        shot(person.page, name)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_who_is_not_logged_in_sees_the_log_in(
    visit: Visit, shop: Shop, axe: Check, fits: Check, shot: Shot, look: Look
) -> None:
    page = visit(f"/admin/cards?batch={FESTIVAL}&lang={look.language}", look)
    assert "/admin/login?next=" in page.url
    assert page.locator("html").get_attribute("lang") == ("en" if look.language == "en" else "zh-CN")
    axe(page)
    fits(page)
    shot(page, "login")


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_what_is_not_there_says_so(
    enter: Enter, troubles: Troubles, axe: Check, fits: Check, shot: Shot, look: Look
) -> None:
    troubles.expect("status of 404")
    person = enter(f"/admin/card?id={'0' * 32}", look)
    person.is_headed("404", "404")
    axe(person.page)
    fits(person.page)
    shot(person.page, "error")


def test_who_reloads_a_form_is_led_on(enter: Enter) -> None:
    person = enter("/admin/")
    for path, target in LED_ON.items():
        landed = person.page.request.get(path)
        assert (landed.status, landed.url.endswith(target)) == (200, True), path


def test_all_of_this_was_walked(site: Site) -> None:
    assert_walked(site, WALKED)
