"""Every page of the console that has something to show, and which of them docs/console.md shows."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode

from playwright.sync_api import expect

from tests.support.browser.people import Person
from tests.support.browser.seeding import LIVE, SELLER, SHOP, Shop
from tests.support.browser.visits import Look

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
# Under the name of its picture: where it is, and the way there.
SEEN: dict[str, tuple[str, Way]] = {
    "overview": ("/admin/", at("/admin/")),
    "cards": ("/admin/cards", at(f"/admin/cards?batch={LIVE}")),
    "card": ("/admin/card", lambda person, shop: person.go(f"/admin/card?id={shop.live}")),
    "refusal": ("/admin/refusal", to_refusal),
    "move": ("/admin/card/move", TO_MOVE),
    "confirm": ("/admin/cards/confirm", from_card(("冻结…", "Freeze…"), "冻结", "Freeze")),
    "edit": ("/admin/cards/edit", TO_EDIT),
    "done": ("/admin/cards/done", lambda person, shop: person.go(f"/admin/cards/done?form={shop.freeze_form}")),
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
    "webhooks": ("/admin/webhooks", at("/admin/webhooks")),
    "webhook": ("/admin/webhook", by_link("/admin/webhooks", "main tbody a", "**/admin/webhook?**")),
    "programs": ("/admin/programs", at("/admin/programs")),
    "program": ("/admin/program", at("/admin/program?id=main")),
    "settings": ("/admin/settings", at("/admin/settings")),
    "blocks": ("/admin/blocks", at("/admin/blocks")),
    "block": ("/admin/blocks/add", TO_BLOCK),
    "unblock": ("/admin/blocks/remove", by_link("/admin/blocks", "main tbody a.btn", "**/admin/blocks/remove?**")),
    "files": ("/admin/files", at("/admin/files")),
    "functions": ("/admin/functions", at("/admin/functions")),
    "keys": ("/admin/keys", at("/admin/keys")),
    "health": ("/admin/health", at("/admin/health")),
}


class Picture(NamedTuple):
    """A picture of the docs: of which sight, on which device, and how much of it, in pixels of the page."""

    sight: str
    device: Literal["desktop", "phone"]
    height: int

    def look(self, language: Literal["zh", "en"]) -> Look:
        return Look(self.device, language, "dark" if self.device == "phone" else "light")

    def file(self, language: str) -> str:
        name = "phone" if self.device == "phone" else self.sight
        return f"console-{name}{'' if language == 'en' else '.zh-CN'}.png"


PICTURES = [
    Picture("overview", "desktop", 1100),
    Picture("cards", "desktop", 1100),
    Picture("card", "desktop", 1100),
]
LANGUAGES: tuple[Literal["zh", "en"], ...] = ("zh", "en")
