"""Sellers see the cards that they issued, and those whose whole keys they type; of machines they see a digest."""
# Owns action-own-cards, console-masking.

import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import pytest

from app.domain.codes import Code, EventKind
from app.domain.operators.operators import Role
from app.storage import journal
from app.storage.journal import Entry
from app.storage.models import Card, Client, Operator, Usage
from tests.support.console.console import Browser, Seen, add_operator
from tests.support.licence.bound_cards import Environment, change
from tests.support.services.service import Service

BORN = datetime(2026, 1, 1, tzinfo=UTC)
OWN, OTHER = "5" * 32, "WXYZ" + "7" * 28
HARDWARE = "board=MB-2231;disk=S4EV"


def make(card_id: str, issuer: str | None = None, **columns: object) -> str:
    """A card that an operator, or nobody, issued; it is in use."""
    operator = None if issuer is None else Operator.get(Operator.name == issuer).id
    now = datetime.now(UTC)
    times = {"is_activated": True, "activated_at": now, "expires_at": now + timedelta(days=3), "created_at": BORN}
    row = {"id": card_id, "validity": timedelta(days=30), "operator_id": operator, **times, **columns}
    Card.insert(**row).execute()
    return card_id


@pytest.fixture
def both(owner: Browser, seller: Browser) -> tuple[str, str]:
    """A card of the seller, and one that the owner issued."""
    return make(OWN, "小李"), make(OTHER, "老王")


def bind(card_id: str, hardware: str) -> str:
    """Bind a card to a machine; return the digest of its hardware."""
    digest = hashlib.sha256(hardware.encode()).hexdigest()
    machine = {"hardware": hardware, "hardware_sha256": digest, "ip": "203.0.113.7"}
    Client.insert(id="C" * 32, card=card_id, requested_at=BORN, function="f", **machine).execute()
    return digest


def rejected(card_id: str, code: Code = Code.CLIENT_MISMATCH, **more: object) -> Entry:
    entry: dict[str, object] = {"ip": "203.0.113.7", "hardware": "pc", "function": "f", **more}
    return Entry(datetime.now(UTC), EventKind.REJECTED, code, card_id, **entry)  # type: ignore[arg-type]


def card_link(card_id: str) -> str:
    return f"/admin/card?id={card_id}"


def search(browser: Browser, text: str, **more: str) -> Seen:
    return browser.get(f"/admin/cards?{urlencode({'q': text, **more})}")


@pytest.mark.usefixtures("both")
def test_a_sellers_list_has_the_cards_that_they_issued(owner: Browser, seller: Browser) -> None:
    for query in ("", "?status=active", "?sort=expiry", "?expires=7d"):
        page = seller.get(f"/admin/cards{query}")
        assert (OWN in page.text, "WXYZ" in page.text, "共 1 张" in page.words) == (True, False, True), query
        assert "这里只有您自己发出的卡密" in page.words
        assert OTHER in owner.get(f"/admin/cards{query}").text


@pytest.mark.usefixtures("both")
def test_a_whole_key_shows_the_card_and_no_beginning_does(owner: Browser, seller: Browser) -> None:
    for typed in (OTHER, f" {OTHER[:8]}-{OTHER[8:].lower()}", f"{OTHER}, {OWN}"):
        assert card_link(OTHER) in search(seller, typed).links, typed
    assert card_link(OTHER) not in search(seller, OTHER, status="frozen").links
    assert seller.get(f"/admin/card?id={OTHER}").status == 200
    for length in (1, 4, 31):
        assert OTHER not in search(seller, OTHER[:length]).text
        assert OTHER in search(owner, OTHER[:length]).text
        assert OWN in search(seller, OWN[:length]).text


def test_no_beginning_reveals_a_machine(owner: Browser, seller: Browser, both: tuple[str, str]) -> None:
    bind(OWN, HARDWARE)
    for typed in ("board=", HARDWARE[:-1]):
        assert OWN in search(owner, typed).text
        assert OWN not in search(seller, typed).text
    assert OWN in search(seller, HARDWARE).text


def test_a_sellers_text_that_begins_others_cards_is_looked_for_in_their_notes(seller: Browser, owner: Browser) -> None:
    make("1234" + "0" * 28, "老王")
    make(OWN, "小李", note="order 1234")
    page = search(seller, "1234")
    assert (OWN in page.text, "共 1 张" in page.words) == (True, True)


def test_a_removed_sellers_cards_are_nobodys_and_no_later_namesakes(proxied: Service, seller: Browser) -> None:
    make(OWN, "小李")
    proxied.cardctl("admin", "remove", "小李")
    assert Card.get_by_id(OWN).operator_id is None
    journal.append([Entry(BORN, EventKind.ISSUED, actor="console:小李", details={"count": 1})])
    add_operator("小李", Role.SELLER, since=BORN + timedelta(minutes=1))
    namesake = Browser(proxied, address="192.0.2.2").walk_in("小李")
    assert OWN not in namesake.get("/admin/cards").text
    assert not [link for link in namesake.get("/admin/cards/issue").links if link.startswith("/admin/cards/issued?")]
    assert namesake.get(f"/admin/cards/issued?at={quote(BORN.isoformat())}").status == 404
    assert "已发卡" not in namesake.get("/admin/journal").words


def test_the_journal_has_what_a_seller_did_and_the_entries_of_a_card_or_a_reference(
    owner: Browser, seller: Browser, both: tuple[str, str]
) -> None:
    moved = {"moved_to": OWN}
    journal.append([rejected(OTHER, reference="K7M2Q9XD")])
    journal.append([rejected("VIP2024000001", Code.CARD_NOT_FOUND, reference="V5GJS7T1")])
    now, actor = datetime.now(UTC), "console:小李"
    journal.append([Entry(now, EventKind.MOVED, card_id=OWN, actor=actor)])
    journal.append([Entry(now, EventKind.RELEASED, card_id=OTHER, actor=actor, details=moved)])
    page = seller.get("/admin/journal?actor=console%3A%E8%80%81%E7%8E%8B")
    assert (page.text.count("<tr>"), OTHER in page.text, "•••" in page.words) == (3, False, True)
    assert page.links.count(card_link(OWN)) == 2, "of the move and in the details of the release"
    assert card_link(OTHER) in seller.get(f"/admin/journal?card={OTHER.lower()}").links
    for reference, key in (("K7M2Q9XD", OTHER), ("V5GJS7T1", "VIP2024000001")):
        for path in ("/admin/journal", "/admin/refusal"):
            page = seller.get(f"{path}?reference={reference}")
            assert ("•••" in page.words, key[:4] in page.text) == (True, False)
            assert key in owner.get(f"{path}?reference={reference}").text


def test_usage_of_others_cards_takes_their_whole_key(owner: Browser, seller: Browser, both: tuple[str, str]) -> None:
    now = datetime.now(UTC)
    rows = [{"card": card, "day": now.date(), "function": "f", "count": 1, "last_at": now} for card in both]
    Usage.insert_many(rows).execute()
    page = seller.get("/admin/usage?function=f")
    assert not {OWN, OTHER} & set(page.words.split())
    assert OTHER in owner.get("/admin/usage?function=f").words
    assert OTHER in seller.get(f"/admin/usage?card={OTHER}").words.split()


def test_the_overview_and_the_report_name_a_sellers_own_cards(
    owner: Browser, seller: Browser, both: tuple[str, str]
) -> None:
    now = datetime.now(UTC)
    for card in both:
        journal.append([rejected(card)])
        for number in range(5):
            change(card, Environment("pc", "203.0.113.7"), Environment(f"pc {number}", "203.0.113.7"), now)
    for path in ("/admin/", "/admin/sharing"):
        pages = seller.get(path), owner.get(path)
        assert [(OWN in page.text, OTHER in page.text) for page in pages] == [(True, False), (True, True)], path


def test_tracebacks_and_urls_of_webhooks_are_shown_to_owners_only(
    owner: Browser, seller: Browser, both: tuple[str, str]
) -> None:
    said = {"detail": 'File "/functions/secret.py", line 7, in export\nKeyError: price'}
    journal.append([rejected(OWN, code, details=said) for code in (Code.FUNCTION_FAILED, Code.FUNCTION_TIMEOUT)])
    hook = {"webhook": "shop", "url": "https://shop.example/hook?token=s3cret"}
    journal.append([Entry(BORN, EventKind.WEBHOOK_ADDED, card_id=OWN, details=hook)])
    for path in (f"/admin/card?id={OWN}", f"/admin/journal?card={OWN}"):
        page = seller.get(path)
        for word in ("功能执行失败", "功能执行超时", "shop"):
            assert word in page.words, "that it failed, everybody may know"
        for word in ("secret.py", "KeyError", "错误详情", "s3cret"):
            assert word not in page.text
            assert word in owner.get(path).text


def test_sellers_see_machines_by_a_digest(owner: Browser, seller: Browser, both: tuple[str, str]) -> None:
    """With key and hardware, another address is accepted: whoever has both is the customer."""
    digest = bind(OWN, HARDWARE)
    entry = rejected(OWN, hardware=HARDWARE, reference="K7M2Q9XD")
    said = {"hardware_sha256": digest}
    entries = [entry, rejected(OTHER, hardware=HARDWARE)]
    entries.append(replace(entry, code=Code.CARD_EXPIRED, hardware=HARDWARE[:10], details=said))
    changed = {"before": {"hardware": "board=MB-1107;disk=WD9"}}
    entries.append(replace(entry, kind=EventKind.ENVIRONMENT_CHANGED, code=None, details=changed))
    journal.append(entries)
    pages = [seller.get(path) for path in ("/admin/cards", "/admin/sharing", f"/admin/journal?card={OTHER}")]
    assert len({hardware_of(page) for page in pages}) == 1, "the same machine is the same one everywhere"
    for path in ("/admin/cards", f"/admin/card?id={OWN}", "/admin/refusal?reference=K7M2Q9XD", "/admin/sharing"):
        assert HARDWARE in owner.get(path).text, path
        page = seller.get(path)
        assert "#" in page.words, path
        for part in ("board=", "MB-2231", "MB-1107", quote(HARDWARE), quote(HARDWARE, safe="")):
            assert part not in page.text, path
        assert digest[:8] not in page.text, "or a guess could be checked"


def test_machines_with_the_same_beginning_have_digests_of_their_own(seller: Browser) -> None:
    for number in range(2):
        digest = hashlib.sha256(f"{'board=' * 11}{number}".encode()).hexdigest()
        cut = {"hardware": ("board=" * 11)[: journal.MAX_REFUSED_HARDWARE], "details": {"hardware_sha256": digest}}
        journal.append([rejected(OTHER, Code.CARD_EXPIRED, reference=f"V5GJS7T{number}", **cut)])
    told = [hardware_of(seller.get(f"/admin/refusal?reference=V5GJS7T{number}")) for number in range(2)]
    assert told[0] != told[1]


def hardware_of(page: Seen) -> str:
    (told,) = set(re.findall("#[0-9a-f]{8}", page.words))
    return str(told)
