"""`/` and `/card`, and errors below `/admin`, as a browser shows them."""

import base64
import hashlib
import re
from unittest.mock import Mock

import falcon
import falcon.testing
import pytest

from app.console.plain import FrontPage
from app.domain.errors import UnavailableError
from app.storage.database import Database
from tests.support.console.console import Browser, Seen, add_operator
from tests.support.self_service import ALLOWED, Customers
from tests.support.services.service import Service, question

ADD = "scripts/cardctl admin add NAME"


def front(service: Service, **headers: str) -> Seen:
    seen = Browser(service, language="en").get("/", headers)
    assert (seen.status, seen.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "Licence server" in seen.words
    assert "卡密验证服务" in seen.words
    return seen


def style_digest(seen: Seen) -> str:
    style = seen.text.partition("<style>")[2].partition("</style>")[0]
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def test_a_browser_sees_what_this_server_is_and_who_asks_for_json_gets_a_problem(service: Service) -> None:
    for accept in ("text/html,application/xhtml+xml,*/*;q=0.8", "*/*", "application/json" + ";" * 500):
        seen = front(service, Accept=accept)
        assert f"style-src 'sha256-{style_digest(seen)}';" in seen.headers["content-security-policy"], accept
        assert not re.search(r"[0-9]+\.[0-9]+\.[0-9]", seen.words), "a version is of use to an attacker"
    for accept in ("application/json", "application/problem+json, text/html;q=0.5"):
        answer = service.request("GET", "/", headers={"Accept": accept})
        assert (answer.status, answer.body["code"]) == (404, "NOT_FOUND")
    assert service.request("HEAD", "/").status == 200
    assert service.request("POST", "/", b"{}").status == 405


def test_the_front_page_and_the_consoles_paths_say_how_to_open_it_until_there_is_an_operator(service: Service) -> None:
    seen = front(service)
    assert (ADD in seen.words, "/admin" in seen.text) == (True, False)
    for path in ("/admin", "/admin/login", "/admin/nothing"):
        seen = Browser(service).get(path)
        assert (seen.status, ADD in seen.words, "stylesheet" in seen.text) == (404, True, False)
    add_operator("olga")
    seen = front(service)
    assert (ADD in seen.words, seen.text.count('href="/admin/"')) == (False, 2)


def test_behind_the_proxy_the_console_is_named_only_to_whom_the_proxy_says_so(proxied: Service) -> None:
    def tells(**headers: str) -> tuple[bool, bool]:
        seen = front(proxied, **{"X-Real-IP": "192.0.2.1"}, **headers)
        return "/admin" in seen.text, ADD in seen.words

    welcome, unwelcome = {"X-Kadun-Admin-Stranger": "0"}, {"X-Kadun-Admin-Stranger": "1"}
    assert [tells(**welcome), tells(**unwelcome), tells()] == [(False, True), (False, False), (False, False)]
    add_operator("olga")
    assert [tells(**welcome), tells(**unwelcome), tells()] == [(True, False), (False, False), (False, False)]


def test_the_front_page_names_what_can_be_read_where_the_rest_cannot() -> None:
    there, away = Mock(return_value=True), Mock(side_effect=UnavailableError)
    for is_on, operators_exist, state in ((away, there, "on"), (there, away, "")):
        console = Mock(behind_proxy=False)
        console.sessions.operators_exist = operators_exist
        FrontPage(console, Mock(is_on=is_on)).on_get(falcon.testing.create_req(), falcon.Response())
        shown = console.renderer.render.call_args.kwargs
        assert (shown["console_state"], shown["has_self_service"]) == (state, is_on is there)


class Visitor:
    """A customer's browser."""

    def __init__(self, service: Service, address: str = "203.0.113.50") -> None:
        self._browser = Browser(service, address=address)
        self.page = self._browser.get("/card?lang=en")

    def press(self, do: str, **typed: str) -> Seen:
        """Fill in the form that has this button, and press it."""
        (form,) = [form for form in self.page.forms if ("do", do) in [button[:2] for button in form.buttons]]
        return self.post(dict(form.fields) | typed | {"do": do})

    def post(self, fields: dict[str, str]) -> Seen:
        self.page = self._browser.post("/card", fields, csrf="")
        assert not self.page.cookies
        return self.page

    @property
    def offers(self) -> list[str]:
        """What the page's buttons do."""
        return [button[1] for form in self.page.forms for button in form.buttons]


@pytest.fixture
def customers(proxied: Service, database: Database) -> Customers:
    return Customers(proxied, database, **ALLOWED, contact="QQ 10001")


def test_the_page_offers_only_what_is_possible(customers: Customers) -> None:
    service = customers.service
    (unused,), (permanent,) = service.issue(), service.issue(validity="permanent")
    assert service.verify(question(permanent), address="192.0.2.1").status == 200
    for card_id, offered in ((unused, ["renew"]), (permanent, ["unbind"])):
        customer = Visitor(service)
        customer.press("look", card_id=card_id)
        assert customer.offers == offered
    assert "Cost none" in customer.press("unbind").words
    customers.allow(self_renew="", self_unbind_per_30_days="")
    customer.press("look", card_id=permanent)
    assert customer.offers == []
    refused = customer.post({"card_id": permanent, "do": "unbind", "lang": "en"})
    assert (refused.status, "cannot be unbound now" in refused.words) == (403, True)


def test_what_is_mistyped_or_unknown_is_told_and_kept(customers: Customers) -> None:
    customer = Visitor(customers.service)
    for typed, status in (("", 400), ("x" * 65, 400), ("<b>no card</b>", 404), ("\u202e", 404)):
        seen = customer.post({"card_id": typed, "lang": "en"})
        assert (seen.status, "<b>" in seen.text, 'role="alert"' in seen.text) == (status, False, True), typed
        assert ("QQ 10001" in seen.words, "look" in customer.offers) == (True, True), typed
    assert customer.post({"card_id": "x", "with_card_id": "", "do": "renew"}).status == 400
    assert customer.post({"card_id": "x" * 5000}).status == 413
    raw = Browser(customers.service, address="203.0.113.52")
    seen = raw.send("POST", "/card", b"{}", {"Content-Type": "application/json"})
    assert (seen.status, seen.headers["content-type"]) == (415, "text/html; charset=utf-8")


def test_the_page_needs_no_other_file_is_kept_nowhere_and_is_linked_while_it_is_there(customers: Customers) -> None:
    seen = Visitor(customers.service).page
    style, rest = f"style-src 'sha256-{style_digest(seen)}'", "frame-ancestors 'none'; base-uri 'none'"
    assert seen.headers["content-security-policy"] == f"default-src 'none'; {style}; form-action 'self'; {rest}"
    assert (seen.headers["referrer-policy"], seen.headers["cache-control"]) == ("no-referrer", "no-store")
    assert not re.search(r"<(script|link|img|iframe)|src=|style=|/admin", seen.text)
    assert {(form.method, form.action) for form in seen.forms} == {("post", "/card")}
    browser = Browser(customers.service, address="203.0.113.55")
    assert [link for link in browser.get("/").links if "/card" in link] == ["/card?lang=zh", "/card?lang=en"]
    customers.allow(self_service="")
    assert not [link for link in browser.get("/").links if "/card" in link]
