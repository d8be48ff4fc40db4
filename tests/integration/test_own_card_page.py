"""`/card`: a customer's page, in two languages, without cookie or script."""

import base64
import hashlib
import re
from datetime import timedelta

import pytest

from app.storage.database import Database
from app.storage.models import Card, Event
from tests.support.console import Browser, Seen
from tests.support.html_pages import Form
from tests.support.self_service import ALLOWED, Customers
from tests.support.service import Service, question, wait_for

DAY = timedelta(days=1)


class Visitor:
    """A customer's browser."""

    def __init__(self, service: Service, address: str = "203.0.113.50", language: str = "en") -> None:
        self._browser = Browser(service, address=address)
        self.page = self._browser.get(f"/card?lang={language}")

    def press(self, do: str, **typed: str) -> Seen:
        """Fill in the form that has this button, and press it."""
        form = self.form(do)
        fields = dict(form.fields) | typed | {"do": do}
        return self.post(fields)

    def post(self, fields: dict[str, str]) -> Seen:
        """Send a form."""
        self.page = self._browser.post("/card", fields, csrf="")
        assert not self.page.cookies
        return self.page

    def form(self, do: str) -> Form:
        """The page's form that has this button."""
        (form,) = [form for form in self.page.forms if ("do", do) in [button[:2] for button in form.buttons]]
        return form

    @property
    def offers(self) -> list[str]:
        """What the page's buttons do."""
        return [button[1] for form in self.page.forms for button in form.buttons]


@pytest.fixture
def customers(proxied: Service, database: Database) -> Customers:
    return Customers(proxied, database, **ALLOWED, contact="QQ 10001")


def bound(service: Service, card_id: str) -> None:
    assert service.verify(question(card_id, card_id), address="192.0.2.1").status == 200


def test_a_customer_looks_up_and_unbinds_after_having_seen_what_it_costs(customers: Customers) -> None:
    (card_id,) = customers.service.issue()
    bound(customers.service, card_id)
    before = Card.get_by_id(card_id).expires_at
    customer = Visitor(customers.service)
    assert "Enter the card's key" in customer.press("look", card_id="\ufeff“卡密:”").words
    shown = customer.press("look", card_id=f" 卡密\uff1a“{card_id.lower()}” ")
    for told in ("active", "bound", "Asia/Shanghai (UTC+08:00)", "Unbindings left 2", "1 day", "QQ 10001"):
        assert told in shown.words
    assert card_id not in shown.words
    asked = customer.press("unbind")
    assert "Cost 1 day" in asked.words
    assert "cannot be undone" in asked.words
    assert "offline" in asked.words
    assert Card.get_by_id(card_id).expires_at == before, "nothing is done before it is confirmed"
    form = dict(customer.form("unbind_now").fields)
    done = customer.press("unbind_now")
    assert "Unbound." in done.words
    assert "Unbindings left 1" in done.words
    assert Card.get_by_id(card_id).expires_at == before - DAY
    again = customer.post(form | {"do": "unbind_now"})
    assert (again.status, "The card has changed" in again.words) == (409, True)
    assert Event.select().where(Event.kind == "self_unbound").count() == 1


def test_the_page_offers_only_what_is_possible(customers: Customers) -> None:
    service = customers.service
    unused, frozen, ended = service.issue(3)
    (permanent,) = service.issue(validity="permanent")
    for card_id in (frozen, ended, permanent):
        bound(service, card_id)
    service.cardctl("card", "freeze", frozen)
    Card.update(expires_at=Card.activated_at).where(Card.id == ended).execute()
    offered = {}
    for card_id in (unused, frozen, ended, permanent):
        customer = Visitor(service)
        customer.press("look", card_id=card_id)
        offered[card_id] = customer.offers
    assert offered == {unused: ["renew"], frozen: [], ended: ["unbind", "renew"], permanent: ["unbind"]}
    customer = Visitor(service, address="203.0.113.51")
    customer.press("look", card_id=permanent)
    assert "Expiry never" in customer.page.words
    assert "Cost none" in customer.press("unbind").words
    Card.update(expires_at=Card.activated_at + timedelta(hours=25)).where(Card.id == ended).execute()
    Card.update(activated_at=Card.activated_at - DAY, expires_at=Card.expires_at - DAY).where(
        Card.id == ended
    ).execute()
    customer.press("look", card_id=ended)
    assert "expire at once" in customer.press("unbind").words
    customers.allow(self_renew="", self_unbind_per_30_days="")
    customer.press("look", card_id=permanent)
    assert customer.offers == []
    assert "Unbindings" not in customer.page.words
    refused = customer.post({"card_id": permanent, "do": "unbind", "lang": "en"})
    assert (refused.status, "cannot be unbound now" in refused.words) == (403, True)


def test_what_is_mistyped_or_unknown_is_told_and_kept(customers: Customers) -> None:
    customer = Visitor(customers.service)
    for typed, status in (
        ("", 400),
        ("x" * 65, 400),
        ("  ", 400),
        ("<b>no card</b>", 404),
        ("\N{RIGHT-TO-LEFT OVERRIDE}", 404),
    ):
        seen = customer.post({"card_id": typed, "lang": "en"})
        assert (seen.status, "<b>" in seen.text) == (status, False)
        assert 'role="alert"' in seen.text
        assert "QQ 10001" in seen.words
        customer.form("look")
    assert customer.post({"card_id": "x", "with_card_id": "", "do": "renew"}).status == 400
    assert customer.post({"card_id": "x" * 5000}).status == 413
    raw = Browser(customers.service, address="203.0.113.52")
    assert (
        raw.send("POST", "/card", b"card_id=%00", {"Content-Type": "application/x-www-form-urlencoded"}).status == 400
    )
    assert raw.send("POST", "/card", b"{}", {"Content-Type": "application/json"}).status == 415
    twice = raw.send("POST", "/card", b"card_id=a&card_id=b", {"Content-Type": "application/x-www-form-urlencoded"})
    assert (twice.status, twice.headers["content-type"]) == (400, "text/html; charset=utf-8")


def test_the_language_is_the_browsers_until_it_is_chosen(customers: Customers) -> None:
    browser = Browser(customers.service, language="zh", address="203.0.113.53")
    for accepted, path, title in (
        ("", "/card", "卡密自助服务"),
        ("en-GB,en;q=0.9", "/card", "Your card"),
        ("en-GB,en;q=0.9", "/card?lang=zh", "卡密自助服务"),
        ("zh-CN", "/card?lang=en", "Your card"),
        ("zh-CN", "/card?lang=xx", "卡密自助服务"),
    ):
        assert title in browser.get(path, {"Accept-Language": accepted}).words
    form = {"card_id": "x", "lang": "en"}
    assert "There is no such card" in browser.post("/card", form, csrf="", headers={"Accept-Language": "zh"}).words


def test_the_page_needs_no_other_file_and_is_kept_nowhere(customers: Customers) -> None:
    seen = Visitor(customers.service).page
    style = seen.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = seen.headers["content-security-policy"]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    assert (seen.headers["referrer-policy"], seen.headers["cache-control"]) == ("no-referrer", "no-store")
    assert not re.search(r"<(script|link|img|iframe)|src=|style=|/admin", seen.text)
    assert {(form.method, form.action) for form in seen.forms} == {("post", "/card")}


def test_a_customer_who_asks_too_often_is_told_so(customers: Customers) -> None:
    customer = Visitor(customers.service, address="203.0.113.54")
    seen: list[Seen] = []

    def is_refused() -> bool:
        seen.append(customer.post({"card_id": "0" * 32, "lang": "en"}))
        return seen[-1].status == 429

    wait_for(is_refused)
    assert {page.status for page in seen[:-1]} == {404}
    assert "too many requests" in seen[-1].words.lower()


def test_the_front_page_leads_to_it_only_while_it_is_there(customers: Customers) -> None:
    def led() -> list[str]:
        return [link for link in Browser(customers.service, address="203.0.113.55").get("/").links if "/card" in link]

    assert led() == ["/card?lang=zh", "/card?lang=en"]
    customers.allow(self_service="")
    assert led() == []
