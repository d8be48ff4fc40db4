"""The console's block list: added to from a refusal, the abuse report or by hand, with warnings; removed from."""

import re

import pytest

from app.clock import utc_now
from app.console.rendering import url
from app.domain.ceilings import MAX_CHANGES_PER_DAY
from app.domain.codes import Code, EventKind
from app.services import blocks as service
from app.services.bearer import digest
from app.services.blocks import Blocks
from app.storage import journal
from app.storage.database import Database
from app.storage.models import Block, Ceiling, Event
from tests.support.console import OWN, Browser, Seen
from tests.support.service import Service, question
from tests.support.tables import for_each

LIST, ADD, REMOVE = "/admin/blocks", "/admin/blocks/add", "/admin/blocks/remove"
STRANGER = "198.51.100.7"


def blocked() -> list[tuple[str | None, str | None, str]]:
    return [(each.hardware_sha256, each.network, each.reason) for each in Block.select().order_by(Block.id)]


def link(page: Seen, words: str) -> str:
    """Where the link with these words leads."""
    (found,) = re.findall(rf'href="([^"]+)">{re.escape(words)}</a>', page.text)
    return str(found).replace("&amp;", "&")


def block(browser: Browser, page: Seen, **typed: str) -> Seen:
    return browser.submit(page, ADD, typed)


@pytest.fixture
def refusal(owner: Browser, proxied: Service, cards: list[str]) -> Seen:
    """The page of a stranger's machine that was refused."""
    assert proxied.verify(question(cards[0], "a stranger"), address=STRANGER).body["code"] == Code.CLIENT_MISMATCH
    event = Event.get(Event.code == Code.CLIENT_MISMATCH)
    return owner.get(url("/admin/refusal", reference=event.reference))


def test_machine_and_address_of_a_refusal_are_blocked_from_its_page(owner: Browser, refusal: Seen) -> None:
    form = owner.get(link(refusal, "拉黑这台设备…"))
    page = block(owner, form, reason="卡密转卖")
    assert (page.path, page.status) == (f"{LIST}?done=added", 200)
    assert blocked() == [(digest("a stranger"), None, "卡密转卖")]
    assert "已拉黑，2 秒内在所有进程中生效。" in page.words
    assert [text in page.text for text in (digest("a stranger"), "卡密转卖", "console:老王")] == [True] * 3
    entry = Event.get(Event.kind == EventKind.BLOCK_ADDED)
    assert entry.reference == Event.get(Event.code == Code.CLIENT_MISMATCH).reference
    said = owner.get("/admin/journal?kind=block_added").words
    assert [text in said for text in ("加入黑名单", "原因 卡密转卖", "硬件的 SHA-256")] == [True] * 3
    form = owner.get(link(refusal, "拉黑这个地址…"))
    assert "您自己现在的地址" not in form.words
    block(owner, form, reason="猜卡")
    assert blocked()[1:] == [(None, f"{STRANGER}/32", "猜卡")]


def test_what_a_block_refused_leads_back_to_it(owner: Browser, cards: list[str]) -> None:
    block(owner, owner.get(ADD), hardware="machine-0", reason="r")
    assert "绑定的卡密" in owner.get(LIST).words
    assert cards[0] in owner.get(LIST).words
    details = {"block": Block.get().id}
    refused = {"kind": EventKind.REJECTED, "code": Code.CLIENT_BLOCKED, "reference": "BBBBBBBB", "details": details}
    journal.append([journal.Entry(utc_now(), **refused, hardware="machine-0", ip=STRANGER)])
    page = owner.get(link(owner.get(url("/admin/refusal", reference="BBBBBBBB")), "查看黑名单中的这一项…"))
    assert digest("machine-0") in page.words
    assert "已移出黑名单" in owner.submit(page, REMOVE).words
    assert blocked() == []


def test_machines_and_addresses_of_the_abuse_report_can_be_blocked(
    owner: Browser, seller: Browser, proxied: Service, cards: list[str]
) -> None:
    hardware = "thief & co" * 10  # of refusals the journal has its beginning only
    for card_id in ("0" * 32, "1" * 32, "2" * 32):
        proxied.verify(question(card_id, hardware), address=STRANGER)
    by_machine, by_address = (each for each in owner.get("/admin/sharing").links if each.startswith(ADD))
    assert by_address == url(ADD, network=STRANGER)
    block(owner, owner.get(by_machine), reason="r")
    assert blocked() == [(digest(hardware), None, "r")]
    assert not [each for each in seller.get("/admin/sharing").links if each.startswith(ADD)]


@for_each("network", ["192.0.2.1", "192.0.2.0/24", "::ffff:192.0.2.0/120"])
def test_a_block_of_the_visitors_own_address_is_confirmed_first(owner: Browser, network: str) -> None:
    page = block(owner, owner.get(ADD), network=network, reason="r")
    assert (page.status, blocked()) == (200, [])
    assert "您自己现在的地址 192.0.2.1" in page.words
    assert dict(page.form(ADD).fields)["reason"] == "r", "what was typed stays"
    block(owner, page, own="yes", **OWN)
    assert Block.delete().execute() == 1


def test_a_whole_network_takes_the_password(owner: Browser) -> None:
    page = block(owner, owner.get(ADD), network="203.0.113.0/24", reason="r")
    assert (page.status, blocked()) == (200, [])
    page = block(owner, page, own_password="wrong")
    assert (page.status, blocked()) == (400, [])
    assert "您的密码不正确" in page.words
    block(owner, page, **OWN)
    assert blocked() == [(None, "203.0.113.0/24", "r")]
    block(owner, owner.get(ADD), network="2001:db8::7", reason="an IPv6 address is its /64")
    assert blocked()[1][1] == "2001:db8::/64"
    block(owner, owner.get(ADD), hardware=" disk 1 ", reason="hardware is blocked as it was sent")
    assert blocked()[2][0] == digest(" disk 1 ")


def test_what_cannot_be_blocked_or_is_gone_is_refused_and_stays_in_the_form(owner: Browser) -> None:
    for typed, said in [
        ({"network": "0.0.0.0/0", "reason": "r"}, "不能包含全部地址"),
        ({"network": "::/0", "reason": "r"}, "不能包含全部地址"),
        ({"network": "203.0.113.7/24", "reason": "r"}, "前缀之外的位均为 0"),
        ({"network": "home", "reason": "r"}, "须为 IP 地址"),
        ({"network": "203.0.113.7", "hardware": "h", "reason": "r"}, "只填其中一项"),
        ({"reason": "r"}, "只填其中一项"),
        ({"network": "203.0.113.7", "reason": ""}, "reason 必须是"),
        ({"hardware": "h" * 1025, "reason": "r"}, "硬件信息须为"),
    ]:
        page = block(owner, owner.get(ADD), **typed)
        assert (page.status, blocked()) == (400, []), (typed, said)
        assert said in page.words
        assert dict(page.form(ADD).fields) | typed == dict(page.form(ADD).fields)
    page = block(owner, owner.get(url(ADD, reference="ZZZZZZZZ")), reason="r")
    assert (page.status, "日志中没有参考号" in page.words) == (400, True)
    fields = dict(owner.get(ADD).form(ADD).fields) | {"network": "203.0.113.7", "reason": "r"}
    assert [owner.post(ADD, fields).status for _ in range(2)] == [303, 303]
    again = block(owner, owner.get(ADD), network="203.0.113.7", reason="other")
    assert (again.status, "黑名单中已有此项" in again.words, len(blocked())) == (400, True, 1)
    for text in ("0", "", "x", "9" * 30):
        assert owner.get(url(REMOVE, id=text)).status == owner.post(REMOVE, {"id": text}).status == 404


def test_a_long_list_has_pages(owner: Browser, database: Database) -> None:
    blocks = Blocks(database, "tester", utc_now)
    for number in range(service.PAGE_ROWS + 2):
        blocks.add(blocks.network(f"203.0.113.{number}"), f"reason {number}")
    first = owner.get(LIST)
    assert f"共 {service.PAGE_ROWS + 2} 项" in first.words
    assert f"reason {service.PAGE_ROWS + 1}" in first.words
    last = owner.get(link(first, "更早的"))
    assert [f"reason {number} " in last.words for number in (2, 1, 0)] == [False, True, True]
    assert "更早的" not in last.words


def test_changes_of_the_list_count_among_those_of_a_day(owner: Browser) -> None:
    form = owner.get(ADD)
    assert block(owner, form, network="203.0.113.7", reason="scanner").path == f"{LIST}?done=added"
    assert Ceiling.get().changed == 1
    Ceiling.update(changed=MAX_CHANGES_PER_DAY).execute()
    again = block(owner, owner.get(ADD), network="203.0.113.8", reason="scanner")
    removed = owner.submit(owner.get(f"{REMOVE}?id={Block.get().id}"), REMOVE, {})
    for answer in (again, removed):
        assert (answer.status, f"{MAX_CHANGES_PER_DAY}" in answer.words) == (400, True), answer.words
    assert blocked() == [(None, "203.0.113.7/32", "scanner")]
    assert Event.select().where(Event.kind.in_([EventKind.BLOCK_ADDED, EventKind.BLOCK_REMOVED])).count() == 1
