"""Key masking: sellers do not see keys that others issued, nor what machines are."""

import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from app.domain.codes import Code, EventKind
from app.domain.operators import Role
from app.storage import journal
from app.storage.journal import Entry
from app.storage.models import Card, Client, Figures, Usage
from tests.support.changes import Environment, change
from tests.support.console import Browser, Seen, add_operator
from tests.support.service import Service

BORN = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "WXYZ" + "7" * 28


def make(card_id: str, minutes: int = 0, issued_by: str = "console:老王", **columns: object) -> str:
    """A card as it was issued, with its entry."""
    born = BORN + timedelta(minutes=minutes)
    Card.insert(**{"id": card_id, "validity": timedelta(days=30), "created_at": born, **columns}).execute()
    journal.append(
        [Entry(born, EventKind.ISSUED, actor=issued_by, details={"count": 1, "batch": None, "validity": "30d"})]
    )
    return card_id


def is_masked(page: Seen, card_id: str) -> bool:
    assert page.status == 200, page.words
    assert card_id[:4] in page.words, "it is listed, one way or the other"
    assert (f"{card_id[:4]}•••" in page.words) is (card_id not in page.text)
    return card_id not in page.text


def used() -> dict[str, object]:
    now = datetime.now(UTC)
    return {"is_activated": True, "activated_at": now, "expires_at": now + timedelta(days=3)}


def bind(card_id: str, hardware: str) -> str:
    """Bind a card to a machine; return the digest of its hardware."""
    digest = hashlib.sha256(hardware.encode()).hexdigest()
    machine = {"hardware": hardware, "hardware_sha256": digest, "ip": "203.0.113.7"}
    Client.insert(id="C" * 32, card=card_id, requested_at=BORN, function="f", **machine).execute()
    return digest


def test_cards_of_others_are_masked_in_lists(owner: Browser, seller: Browser) -> None:
    unused, frozen = make(KEY), make("1" * 32, 1, frozen_at=datetime.now(UTC))
    from_a_shop, imported = make("2" * 32, 2, "shop:淘宝"), make("3" * 32, 3, "cardctl:root")
    active, own = make("4" * 32, 4, **used()), make("5" * 32, 5, "console:小李")
    page = seller.get("/admin/cards")
    assert [is_masked(page, each) for each in (unused, frozen, from_a_shop, imported, active)] == [True] * 5
    assert not is_masked(page, own)
    assert is_masked(seller.get("/admin/cards?status=frozen"), frozen)
    assert "带“•••”的卡密不是您发出的" in page.words
    assert "•••" not in owner.get("/admin/cards").text
    all_cards = (unused, frozen, from_a_shop, imported, active, own)
    assert not any(is_masked(owner.get("/admin/cards"), each) for each in all_cards)


def test_a_seller_does_not_see_keys_of_a_former_namesake(proxied: Service) -> None:
    """An owner of that name was removed, and the seller may not take over what they had not sold."""
    make(KEY, issued_by="console:小李")
    add_operator("小李", Role.SELLER, since=BORN + timedelta(minutes=1))
    own = make("5" * 32, 1, "console:小李")
    namesake = Browser(proxied, address="192.0.2.2").walk_in("小李")
    page = namesake.get("/admin/cards")
    assert is_masked(page, KEY)
    assert not is_masked(page, own)
    assert f"{KEY[:4]}•••" not in namesake.get(f"/admin/cards?q={KEY[:4]}").words
    assert not is_masked(namesake.get("/admin/cards?q=5555"), own)
    issues = namesake.get("/admin/cards/issue")
    moments = [link for link in issues.links if link.startswith("/admin/cards/issued?")]
    assert len(moments) == 1
    assert own in namesake.get(moments[0]).text
    before = quote(BORN.isoformat())
    assert namesake.get(f"/admin/cards/issued?at={before}").status == 404


def test_a_search_for_the_whole_key_shows_it(seller: Browser) -> None:
    make(KEY)
    for typed in (KEY, f" {KEY[:8]}-{KEY[8:].lower()}"):
        assert not is_masked(seller.get(f"/admin/cards?q={quote(typed)}"), KEY)
    assert seller.get(f"/admin/card?id={KEY}").status == 200


def test_no_beginning_reveals_a_masked_key(owner: Browser, seller: Browser) -> None:
    make(KEY)
    own, active = make(KEY[:-1] + "8", 1, "console:小李"), make(KEY[:-1] + "9", 2, **used())
    for length in (1, 4, 8, 31):
        page = seller.get(f"/admin/cards?q={KEY[:length]}")
        assert not is_masked(page, own)
        assert active not in page.text
        assert "共 1 张" in page.words
        assert not is_masked(owner.get(f"/admin/cards?q={KEY[:length]}"), KEY)


def keys_listed(page: Seen, keys: list[str]) -> list[str]:
    """The beginnings of the masked keys that a page lists; there is none of the keys in it, nor in its links."""
    assert not [key for key in keys if key in page.text]
    return [word.removesuffix("•••") for word in page.words.split() if word.endswith("•••")]


def test_the_pagers_links_have_no_key(seller: Browser) -> None:
    # All of one moment, as cards of one issue are: their order is the keys' own.
    keys = sorted(f"{number:04}" + "9" * 28 for number in range(120))
    Card.insert_many([{"id": key, "created_at": BORN} for key in keys]).execute()
    first = seller.get("/admin/cards?status=unused")
    second = seller.get(first.way("after"))
    third = seller.get(second.way("after"))
    shown = [word for page in (first, second, third) for word in keys_listed(page, keys)]
    assert shown == [key[:4] for key in reversed(keys)]
    assert keys_listed(seller.get(third.way("before")), keys) == keys_listed(second, keys)
    # A place that was made up would tell which of the hidden keys come after it.
    microseconds = int(BORN.timestamp()) * 1_000_000
    made_up = seller.get(f"/admin/cards?status=unused&after={microseconds}.{keys[60][:-1]}8")
    assert keys_listed(made_up, keys) == keys_listed(first, keys)
    assert keys_listed(seller.get("/admin/cards?status=unused&before=gAAAAA"), keys) == keys_listed(first, keys)


def test_the_usage_pagers_link_has_no_key(seller: Browser) -> None:
    now = datetime.now(UTC)
    keys = sorted(f"{number:04}" + "9" * 28 for number in range(120))
    Card.insert_many([{"id": key, "created_at": BORN, **used(), "validity": timedelta(30)} for key in keys]).execute()
    rows = [{"card": key, "day": now.date(), "function": "f", "count": 1, "last_at": now} for key in keys]
    Usage.insert_many(rows).execute()
    page = first = seller.get("/admin/usage")
    shown = keys_listed(page, keys)
    while onward := page.way("after"):
        page = seller.get(onward)
        shown += keys_listed(page, keys)
    assert shown == [key[:4] for key in reversed(keys)]
    made_up = seller.get(f"/admin/usage?after={now.date()}.{keys[60][:-1]}8.f")
    assert keys_listed(made_up, keys) == keys_listed(first, keys)


def test_the_journal_masks_them_too(owner: Browser, seller: Browser) -> None:
    make(KEY)
    active = make("4" * 32, 4, **used())
    tried = {"kind": EventKind.REJECTED, "code": Code.CLIENT_HAS_ANOTHER_CARD, "hardware": "pc", "function": "f"}
    journal.append([Entry(at=BORN, card_id=each, ip="203.0.113.7", **tried) for each in (KEY, active)])  # type: ignore[arg-type]
    said = {"what": "cards", "format": "csv", "filter": {"q": KEY}}
    journal.append([Entry(BORN, EventKind.EXPORTED, actor="console:老王", details=said)])
    page = seller.get("/admin/journal")
    assert is_masked(page, KEY)
    assert is_masked(page, active)
    gone = "9" * 32
    journal.append(
        [Entry(BORN, EventKind.DELETED, card_id=gone), Entry(BORN, EventKind.RELEASED, details={"moved_to": gone})]
    )
    assert is_masked(seller.get("/admin/journal"), gone), "nor a deleted card's, and in no detail"
    own = make("5" * 32, 5, "console:小李")
    journal.append([Entry(BORN, EventKind.FROZEN, card_id=own)])
    assert not is_masked(seller.get("/admin/journal"), own)
    assert not is_masked(owner.get("/admin/journal"), KEY)
    assert not is_masked(seller.get(f"/admin/journal?card={KEY.lower()}"), KEY)


def test_a_seller_sees_nothing_of_a_mistyped_key(owner: Browser, seller: Browser) -> None:
    tried = {"kind": EventKind.REJECTED, "code": Code.CARD_NOT_FOUND, "ip": "203.0.113.7", "reference": "K7M2Q9XD"}
    journal.append([Entry(at=BORN, card_id="VIP2024000001", **tried)])  # type: ignore[arg-type]
    for path in ("/admin/journal", "/admin/journal?card=VIP2024000001", "/admin/refusal?reference=K7M2Q9XD"):
        words = seller.get(path).words
        assert "•••" in words
        assert "VIP2•••" not in words
        assert "VIP2024000001" in owner.get(path).text


def test_the_overview_the_report_and_usage_mask_keys(owner: Browser, seller: Browser) -> None:
    now = datetime.now(UTC)
    theirs, own = make(KEY, **used()), make("5" * 32, 5, "console:小李", **used())
    shared = make("6" * 32, 6)  # by accepted requests
    for number in range(5):
        change(shared, Environment("pc", "203.0.113.7"), Environment(f"pc {number}", "203.0.113.7"), now)
    for card in (theirs, own):
        tried = Entry(now, EventKind.REJECTED, Code.CLIENT_MISMATCH, card, ip="203.0.113.7", hardware="other")
        journal.append([tried])
        Usage.insert(card=card, day=now.date(), function="f", count=1, last_at=now).execute()
    for path in ("/admin/", "/admin/sharing", "/admin/usage"):
        masked = {theirs: True, own: False} | ({} if path == "/admin/usage" else {shared: True})
        Figures.delete().execute()  # those that the log-in showed are kept a while on a busy machine
        page = seller.get(path)
        assert {card: is_masked(page, card) for card in masked} == masked, path
        page = owner.get(path)
        assert not any(is_masked(page, card) for card in masked), path
    assert not is_masked(seller.get(f"/admin/usage?card={theirs}"), theirs), "who has the whole key may see it"


def test_tracebacks_are_shown_to_owners_only(owner: Browser, seller: Browser) -> None:
    active = make("4" * 32, **used())
    failed = {"card_id": active, "ip": "203.0.113.7", "hardware": "pc", "function": "导出"}
    said = {"detail": 'File "/functions/secret.py", line 7, in export\nKeyError: price'}
    for code in (Code.FUNCTION_FAILED, Code.FUNCTION_TIMEOUT):
        journal.append([Entry(at=BORN, kind=EventKind.REJECTED, code=code, details=said, **failed)])  # type: ignore[arg-type]
    for path in (f"/admin/card?id={active}", f"/admin/journal?card={active}"):
        page = seller.get(path)
        for word in ("功能执行失败", "功能执行超时"):
            assert word in page.words, "that it failed, everybody may know"
        for word in ("secret.py", "KeyError", "错误详情"):
            assert word not in page.text
            assert word in owner.get(path).text


def test_urls_of_webhooks_are_shown_to_owners_only(owner: Browser, seller: Browser) -> None:
    said = {"webhook": "shop", "url": "https://shop.example/hook?token=s3cret"}
    journal.append([Entry(BORN, kind, details=said) for kind in (EventKind.WEBHOOK_ADDED, EventKind.WEBHOOK_REMOVED)])
    page = seller.get("/admin/journal")
    assert page.words.count("shop") == 2, "the names, everybody may know"
    assert "s3cret" not in page.text
    assert owner.get("/admin/journal").words.count("s3cret") == 2


def test_sellers_see_machines_by_a_digest(owner: Browser, seller: Browser) -> None:
    """With key and hardware, another address is accepted: whoever has both is the customer."""
    hardware, before = "board=MB-2231;disk=S4EV", "board=MB-1107;disk=WD9"
    own = make("5" * 32, 5, "console:小李", **used())
    digest = bind(own, hardware)
    changed = {
        "card_id": own,
        "ip": "203.0.113.7",
        "hardware": hardware,
        "details": {"before": {"hardware": before, "ip": "203.0.113.7"}},
    }
    rejected = [
        Entry(datetime.now(UTC), EventKind.REJECTED, Code.CLIENT_MISMATCH, card, ip="203.0.113.7", hardware=hardware)
        for card in (own, KEY)
    ]
    said = {"hardware_sha256": digest}
    rejected.append(replace(rejected[0], code=Code.CARD_EXPIRED, hardware=hardware[:10], details=said))
    rejected.append(Entry(BORN, EventKind.BLOCK_ADDED, actor="console:olga", details=said))
    journal.append([Entry(BORN, EventKind.ENVIRONMENT_CHANGED, **changed), *rejected])  # type: ignore[arg-type]
    told = {hardware_of(seller.get(path)) for path in ("/admin/cards", "/admin/sharing", f"/admin/journal?card={KEY}")}
    assert len(told) == 1, "the same machine is the same one everywhere"
    for path in ("/admin/cards", f"/admin/card?id={own}", "/admin/journal", "/admin/sharing"):
        page = owner.get(path)
        assert hardware in page.text, path
        page = seller.get(path)
        assert "#" in page.words, path
        for part in ("board=", "MB-2231", "MB-1107", quote(hardware), quote(hardware, safe="")):
            assert part not in page.text, path
        assert hashlib.sha256(hardware.encode()).hexdigest()[:8] not in page.text, "or a guess could be checked"


def test_machines_with_the_same_beginning_have_digests_of_their_own(seller: Browser) -> None:
    for number in range(2):
        digest = hashlib.sha256(f"{'board=' * 11}{number}".encode()).hexdigest()
        cut = {"hardware": ("board=" * 11)[: journal.MAX_REFUSED_HARDWARE], "details": {"hardware_sha256": digest}}
        journal.append([Entry(BORN, EventKind.REJECTED, Code.CARD_EXPIRED, KEY, reference=f"V5GJS7T{number}", **cut)])  # type: ignore[arg-type]
    told = [hardware_of(seller.get(f"/admin/refusal?reference=V5GJS7T{number}")) for number in range(2)]
    assert set(re.findall("#[0-9a-f]{8}", seller.get("/admin/journal").words)) == set(told)
    assert told[0] != told[1]


def hardware_of(page: Seen) -> str:
    (told,) = set(re.findall("#[0-9a-f]{8}", page.words))
    return str(told)


def test_no_beginning_reveals_a_machine(owner: Browser, seller: Browser) -> None:
    hardware = "board=MB-2231;disk=S4EV"
    own = make("5" * 32, 5, "console:小李", **used())
    bind(own, hardware)
    for typed in ("board=", hardware[:-1]):
        assert own in owner.get(f"/admin/cards?q={quote(typed)}").text
        assert own not in seller.get(f"/admin/cards?q={quote(typed)}").text
    assert own in seller.get(f"/admin/cards?q={quote(hardware)}").text
