"""Key masking: sellers do not see unused keys that others issued."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from app.domain.codes import Code, EventKind
from app.domain.operators import Role
from app.storage import journal
from app.storage.journal import Entry
from app.storage.models import Card
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


def test_unused_cards_of_others_are_masked_in_lists(owner: Browser, seller: Browser) -> None:
    unused, frozen = make(KEY), make("1" * 32, 1, frozen_at=datetime.now(UTC))
    from_a_shop, imported = make("2" * 32, 2, "shop:淘宝"), make("3" * 32, 3, "cardctl:root")
    active, own = make("4" * 32, 4, **used()), make("5" * 32, 5, "console:小李")
    page = seller.get("/admin/cards")
    assert [is_masked(page, each) for each in (unused, frozen, from_a_shop, imported)] == [True] * 4
    assert [is_masked(page, each) for each in (active, own)] == [False] * 2
    assert is_masked(seller.get("/admin/cards?status=frozen"), frozen)
    why = "他人发出、尚未使用的卡密"
    assert why in page.words
    assert why not in seller.get("/admin/cards?status=active").text
    assert why not in owner.get("/admin/cards").text
    assert not any(is_masked(owner.get("/admin/cards"), each) for each in (unused, frozen, from_a_shop, imported))


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
        assert not is_masked(page, active)
        assert "共 2 张" in page.words
        assert not is_masked(owner.get(f"/admin/cards?q={KEY[:length]}"), KEY)


def test_the_pagers_links_have_no_key(seller: Browser) -> None:
    # All of one moment, as cards of one issue are: their order is the keys' own.
    keys = sorted(f"{number:04}" + "9" * 28 for number in range(120))
    Card.insert_many([{"id": key, "created_at": BORN} for key in keys]).execute()

    def listed(page: Seen) -> list[str]:
        assert not [key for key in keys if key in page.text]
        return [word.removesuffix("•••") for word in page.words.split() if word.endswith("•••")]

    def way(page: Seen, name: str) -> str:
        return next(link for link in page.links if f"{name}=" in link and "lang=" not in link)

    first = seller.get("/admin/cards?status=unused")
    second = seller.get(way(first, "after"))
    third = seller.get(way(second, "after"))
    assert listed(first) + listed(second) + listed(third) == [key[:4] for key in reversed(keys)]
    assert listed(seller.get(way(third, "before"))) == listed(second)
    # A place that was made up would tell which of the hidden keys come after it.
    microseconds = int(BORN.timestamp()) * 1_000_000
    made_up = seller.get(f"/admin/cards?status=unused&after={microseconds}.{keys[60][:-1]}8")
    assert listed(made_up) == listed(first)
    assert listed(seller.get("/admin/cards?status=unused&before=gAAAAA")) == listed(first)


def test_the_journal_masks_them_too(owner: Browser, seller: Browser) -> None:
    make(KEY)
    active = make("4" * 32, 4, **used())
    tried = {"kind": EventKind.REJECTED, "code": Code.CLIENT_HAS_ANOTHER_CARD, "hardware": "pc", "function": "f"}
    journal.append([Entry(at=BORN, card_id=each, ip="203.0.113.7", **tried) for each in (KEY, active)])  # type: ignore[arg-type]
    said = {"what": "cards", "format": "csv", "filter": {"q": KEY}}
    journal.append([Entry(BORN, EventKind.EXPORTED, actor="console:老王", details=said)])
    page = seller.get("/admin/journal")
    assert is_masked(page, KEY)
    assert "他人发出、尚未使用的卡密" in page.words
    assert not is_masked(page, active)
    assert not is_masked(owner.get("/admin/journal"), KEY)
    assert not is_masked(seller.get(f"/admin/journal?card={KEY.lower()}"), KEY)


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
