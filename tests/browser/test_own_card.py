"""`/card` as a customer's phone shows it: looked up, unbound and renewed, without scripts too."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from playwright.sync_api import expect

from app.clock import utc_now
from app.storage.models import Card
from tests.browser.conftest import Fresh
from tests.support.browser.people import Person
from tests.support.browser.seeding import ask, opened
from tests.support.browser.visits import LOOKS, Look, Reading, Site, Troubles, Visit, in_every_look
from tests.support.in_force import wait_in_force
from tests.support.self_service import ALLOWED, set_terms
from tests.support.service import OPEN

CONTACT = "微信 laowang-888，周一到周五 9:00–18:00 / WeChat laowang-888, weekdays"


@pytest.fixture
def allowed(site: Site) -> None:
    with opened(site) as database:
        set_terms(database, **ALLOWED, contact=CONTACT)
        wait_in_force(database.execute_sql)


@pytest.fixture
def bound(site: Site, allowed: None, fresh: Fresh, look: Look) -> tuple[str, str]:
    """A card in use, and a new one."""
    own, new, _ = fresh.ids
    assert ask(site, own, f"pc of {own}", "192.0.2.1", OPEN) == "OK"
    return own, new


def customer_of(visit: Visit, site: Site, look: Look, **options: bool) -> Person:
    """A customer at an address of their own: of one there may be few requests in a minute."""
    address = f"203.0.113.{LOOKS.index(look) + (100 if options else 1)}"
    page = visit("/card", look, own=True, extra_http_headers={"X-Test-Address": address}, **options)
    return Person(page, look)


def unbind_and_renew(customer: Person, own: str, new: str, look_at: Callable[[str], None]) -> None:
    customer.is_headed("卡密自助服务", "Your card")
    look_at("own-card")
    customer.field("卡密", "Card key").fill(own.lower())
    customer.press("查询", "Look up")
    customer.reads("使用中", "active")
    customer.reads("Asia/Shanghai (UTC+08:00)", "Asia/Shanghai (UTC+08:00)")
    customer.reads("微信 laowang-888", "WeChat laowang-888")
    look_at("own-card-shown")
    customer.press("解绑…", "Unbind…")
    customer.reads("解绑无法撤销", "This cannot be undone")
    look_at("own-card-unbind")
    customer.press("确认解绑", "Unbind")
    customer.reads("已解绑", "Unbound.")
    customer.reads("离线启动", "offline")
    customer.field("新卡密", "New card").fill(new)
    customer.press("续费…", "Renew…")
    customer.reads("续费无法撤销", "This cannot be undone")
    look_at("own-card-renew")
    customer.press("返回", "Back")
    customer.field("新卡密", "New card").fill(new)
    customer.press("续费…", "Renew…")
    customer.press("确认续费", "Renew")
    customer.reads("续费成功", "Renewed.")
    look_at("own-card-renewed")


@in_every_look
def test_a_customer_unbinds_and_renews(
    site: Site, visit: Visit, look: Look, reading: Reading, bound: tuple[str, str]
) -> None:
    own, new = bound
    customer = customer_of(visit, site, look)
    unbind_and_renew(customer, own, new, lambda name: reading(customer.page, name))
    assert own not in customer.page.url
    with opened(site):
        card = Card.get_by_id(own)
        assert Card.get_by_id(new).renewed_card_id == own
    assert timedelta(days=58) < card.expires_at - utc_now() < timedelta(days=59)


@pytest.mark.parametrize("look", [LOOKS[3]], ids=str)
def test_it_works_without_scripts_and_leaves_nothing_in_the_browser(
    site: Site, visit: Visit, look: Look, bound: tuple[str, str], troubles: Troubles
) -> None:
    troubles.expect("status of 403")
    customer = customer_of(visit, site, look, java_script_enabled=False)
    unbind_and_renew(customer, *bound, lambda _name: None)
    customer.field("新卡密", "New card").fill(bound[1])
    customer.press("续费…", "Renew…")
    expect(customer.page.get_by_role("alert")).to_contain_text("already used up")
    assert customer.page.context.cookies() == []
    customer.touch(customer.page.get_by_role("link", name=re.compile("中文")))
    customer.is_headed("", "卡密自助服务")
