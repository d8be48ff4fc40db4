"""`/card` as a customer's phone shows it: looked up, unbound and renewed."""

from datetime import timedelta

from app.clock import utc_now
from app.storage.models import Card
from tests.browser.conftest import Fresh
from tests.support.browser.people import Person
from tests.support.browser.seeding import ask, opened
from tests.support.browser.visits import LOOKS, Look, Reading, Site, Visit, in_every_look
from tests.support.in_force import wait_in_force
from tests.support.self_service import ALLOWED, set_terms
from tests.support.service import OPEN

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
    page = visit("/card", look, own=True, extra_http_headers=headers)
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
