"""The console's pages of what the vendor sets: terms, webhooks and the block list."""

import re
from datetime import timedelta

import pytest

from app.console.rendering import url
from app.domain.codes import Code, EventKind
from app.domain.licence.terms import Terms, read_terms
from app.domain.operators.ceilings import MAX_CHANGES_PER_DAY
from app.runtime.clock import utc_now
from app.services.bearer import digest
from app.services.licence import blocks as service
from app.services.licence.blocks import Blocks
from app.services.licence.terms import TermsChangedError, VendorTerms
from app.services.webhooks.webhooks import Webhooks
from app.storage.database import Database
from app.storage.models import Block, Ceiling, Event, Webhook
from tests.support.console.console import OWN, Browser, Seen
from tests.support.sealing import SEALING
from tests.support.services.service import Service, question

PATH = "/admin/settings"
LIST, ADD, REMOVE = "/admin/blocks", "/admin/blocks/add", "/admin/blocks/remove"
STRANGER = "198.51.100.7"
TYPED = {
    "binding": "hardware",
    "changes_per_day": "3",
    "minimum_version": "1.9",
    "latest_version": "1.10",
    "update_url": "https://shop.invalid/get?v=1",
    "notice": "停机维护：\n周日 & <周一>",
    "self_service": "on",
    "self_unbind_per_30_days": "2",
    "self_unbind_cost": "1d",
    "self_renew": "any",
    "contact": "QQ 群 12345",
}


def save(browser: Browser, page: Seen | None = None, **typed: str) -> Seen:
    """Fill in the form as it stands in the page, with the password."""
    return browser.submit(page or browser.get(PATH), PATH, typed | OWN)


def fields(page: Seen) -> dict[str, str]:
    return dict(page.form(PATH).fields)


def test_a_vendor_changes_every_term_and_cleared_fields_are_the_defaults_again(olga: Browser) -> None:
    typed = {"notice": TYPED["notice"].replace("\n", "\r\n"), "self_unbind_cost": "1天"}  # as browsers send lines
    page = save(olga, **TYPED | typed)
    assert "in force in every process within two seconds" in page.words
    terms = read_terms(Terms(), TYPED.items())
    assert (VendorTerms.read(), terms.notice, terms.self_unbind_cost) == ((1, terms), TYPED["notice"], timedelta(1))
    assert TYPED.items() <= fields(olga.get(PATH)).items()
    assert Event.get(Event.kind == EventKind.TERMS_CHANGED).actor == "console:olga"
    journal = olga.get("/admin/journal?kind=terms_changed").words
    for change in ("binding either → hardware", "minimum_version not set → 1.9", "self_renew off → any"):
        assert change in journal
    kept = {name: text for name, text in fields(olga.get(PATH)).items() if name not in {"self_service", "self_renew"}}
    emptied = dict.fromkeys(kept.keys() & TYPED.keys(), "") | {"binding": "either"}
    assert olga.post(PATH, kept | emptied | OWN).status == 303
    assert VendorTerms.read() == (2, Terms())


def test_a_wrong_password_changes_nothing_and_saving_what_is_in_force_is_no_change(olga: Browser) -> None:
    page = olga.submit(olga.get(PATH), PATH, TYPED | {"own_password": "wrong"})
    assert (page.status, "your own password is wrong" in page.words) == (400, True)
    assert fields(page)["notice"] == TYPED["notice"]
    assert save(olga).status == 200
    assert VendorTerms.read() == (0, Terms())
    assert not Event.select().where(Event.kind == EventKind.TERMS_CHANGED).count()


def test_what_somebody_else_changed_meanwhile_is_not_overwritten_unseen(olga: Browser, database: Database) -> None:
    page = olga.get(PATH)
    others = VendorTerms(database, "tester", utc_now)
    others.change([("notice", "closed on Sunday")], seen=0)
    with pytest.raises(TermsChangedError):
        others.change([("notice", "open on Sunday")], seen=0)
    refused = save(olga, page, contact="QQ 1")
    assert (refused.status, "the terms were changed meanwhile" in refused.words) == (400, True)
    assert "In force now: closed on Sunday" in refused.words
    assert (fields(refused)["contact"], VendorTerms.read()[1].contact) == ("QQ 1", None)
    save(olga, refused)
    assert VendorTerms.read() == (2, Terms(contact="QQ 1"))


def test_a_webhook_is_paused_by_password_and_changes_count_among_those_of_the_day(
    owner: Browser, database: Database
) -> None:
    """Otherwise a stolen session could silence what tells the vendor of it."""
    one, name = "/admin/webhook", {"name": "shop"}
    Webhooks(database, "tester", utc_now, SEALING).add("shop", "https://shop.invalid/", ["card.activated"])
    for given in ({}, {"own_password": "wrong"}):
        answer = owner.post(f"{one}/pause", {**name, **given})
        assert (answer.status, "您的密码不正确" in answer.words) == (400, True)
    assert Webhook.get().paused_at is None
    assert owner.post(f"{one}/pause", {**name, **OWN}).status == 303
    assert Webhook.get().paused_at is not None
    assert owner.post(f"{one}/resume", name).status == 303, "it takes nothing to have them again"
    other = {"name": "other", "url": "https://other.invalid/", "topic": "card.activated", **OWN}
    blocking = {"reason": "scanner", "network": "203.0.113.7"}
    for number, (path, typed) in enumerate(
        {
            "/admin/webhooks": other,
            f"{one}/test": other,
            f"{one}/secret": other,
            f"{one}/remove": other,
            ADD: blocking,
        }.items()
    ):
        assert owner.post(path, typed).status in {200, 303}
        assert Ceiling.get().changed == 3 + number, path
    Ceiling.update(changed=MAX_CHANGES_PER_DAY).execute()
    before = Event.select().count()
    for path, typed in (
        (f"{one}/test", name),
        (f"{one}/pause", name | OWN),
        (ADD, blocking | {"network": "203.0.113.8"}),
        (REMOVE, {"id": str(Block.get().id)}),
    ):
        answer = owner.post(path, typed)
        assert (answer.status, f"{MAX_CHANGES_PER_DAY}" in answer.words) == (400, True), path
    assert (Event.select().count(), Webhook.get().paused_at) == (before, None)
    assert blocked() == [(None, "203.0.113.7/32", "scanner")]


def blocked() -> list[tuple[str | None, str | None, str]]:
    return [(each.hardware_sha256, each.network, each.reason) for each in Block.select().order_by(Block.id)]


def link(page: Seen, words: str) -> str:
    """Where the link with these words leads."""
    (found,) = re.findall(rf'href="([^"]+)">{re.escape(words)}</a>', page.text)
    return str(found).replace("&amp;", "&")


def block(browser: Browser, page: Seen, **typed: str) -> Seen:
    return browser.submit(page, ADD, typed)


def test_machine_and_address_of_a_refusal_are_blocked_from_its_page(
    owner: Browser, proxied: Service, cards: list[str]
) -> None:
    assert proxied.verify(question(cards[0], "a stranger"), address=STRANGER).body["code"] == Code.CLIENT_MISMATCH
    reference = Event.get(Event.code == Code.CLIENT_MISMATCH).reference
    refusal = owner.get(url("/admin/refusal", reference=reference))
    page = block(owner, owner.get(link(refusal, "拉黑这台设备…")), reason="卡密转卖")
    assert (page.path, page.status) == (f"{LIST}?done=added", 200)
    for text in ("已拉黑，2 秒内在所有进程中生效。", digest("a stranger"), "卡密转卖", "console:老王"):
        assert text in page.words
    assert Event.get(Event.kind == EventKind.BLOCK_ADDED).reference == reference
    said = owner.get("/admin/journal?kind=block_added").words
    assert [text in said for text in ("加入黑名单", "原因 卡密转卖", "硬件的 SHA-256")] == [True] * 3
    form = owner.get(link(refusal, "拉黑这个地址…"))
    assert "您自己现在的地址" not in form.words
    block(owner, form, reason="猜卡")
    assert blocked() == [(digest("a stranger"), None, "卡密转卖"), (None, f"{STRANGER}/32", "猜卡")]


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


def test_a_block_of_the_visitors_own_address_is_confirmed_first_and_a_whole_network_takes_the_password(
    owner: Browser,
) -> None:
    for network in ("192.0.2.1", "192.0.2.0/24"):
        page = block(owner, owner.get(ADD), network=network, reason="r")
        assert (page.status, blocked()) == (200, []), network
        assert "您自己现在的地址 192.0.2.1" in page.words, network
        assert dict(page.form(ADD).fields)["reason"] == "r", "what was typed stays"
        block(owner, page, own="yes", **OWN)
        assert Block.delete().execute() == 1, network
    page = block(owner, owner.get(ADD), network="203.0.113.0/24", reason="r")
    page = block(owner, page, own_password="wrong")
    assert (page.status, "您的密码不正确" in page.words, blocked()) == (400, True, [])
    block(owner, page, **OWN)
    block(owner, owner.get(ADD), network="2001:db8::7", reason="an IPv6 address is its /64")
    block(owner, owner.get(ADD), hardware=" disk 1 ", reason="hardware is blocked as it was sent")
    found = [hardware or network for hardware, network, _reason in blocked()]
    assert found == ["203.0.113.0/24", "2001:db8::/64", digest(" disk 1 ")]


def test_what_cannot_be_blocked_or_is_gone_is_refused_and_stays_in_the_form(owner: Browser) -> None:
    for typed, said in [
        ({"network": "home", "reason": "r"}, "须为 IP 地址"),
        ({"network": "203.0.113.7", "hardware": "h", "reason": "r"}, "只填其中一项"),
    ]:
        page = block(owner, owner.get(ADD), **typed)
        assert (page.status, said in page.words, blocked()) == (400, True, []), typed
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
    assert all(text in first.words for text in (f"共 {service.PAGE_ROWS + 2} 项", f"reason {service.PAGE_ROWS + 1}"))
    last = owner.get(link(first, "更早的"))
    assert [f"reason {number} " in last.words for number in (2, 1, 0)] == [False, True, True]
    assert "更早的" not in last.words
