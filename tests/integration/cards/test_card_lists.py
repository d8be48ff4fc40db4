"""Lists of cards: what is in them, in which order, by which index, and what sellers see of cards and machines."""
# Owns action-own-cards, console-masking.

import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from urllib.parse import quote, urlencode

import pytest

from app.domain.cards.cards import card_id_of
from app.domain.codes import CardStatus, Code, EventKind
from app.domain.licence.policy import VerificationRequest
from app.domain.operators.operators import Role
from app.services.cards.card_lists import CardLists
from app.services.cards.issuing import Issuing
from app.services.licence.licence import Verification
from app.storage import card_lists, card_search, cards, journal
from app.storage.card_lists import CardFilter, Sort
from app.storage.cards import NewCard
from app.storage.database import Database, connect_to
from app.storage.journal import Entry
from app.storage.models import Card, Client, Event, Operator, Usage
from app.storage.paging import Cursor
from tests.conftest import Clock
from tests.integration.conftest import YEAR_CARDS
from tests.support import sample_year
from tests.support.console.console import Browser, Seen, add_operator
from tests.support.licence.bound_cards import Environment, change
from tests.support.query_plans import blocks_read, plan, statements
from tests.support.services.service import Service

WEEK = timedelta(days=7)
OLGA = Operator(id=1, name="olga", role=Role.OWNER, created_at=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def all_cards(year_url: str) -> list[Card]:
    connected = connect_to(Database(year_url))
    with connected.connection_context():
        return list(Card.select())


NOW = datetime.now(UTC) + timedelta(minutes=10)
LARGE, NOTE = sample_year.LARGE_BATCH, sample_year.RARE_NOTE
FILTERS = {
    "all": (CardFilter(), "card_created"),
    "unused": (CardFilter(status=CardStatus.UNUSED), "card_unused"),
    "frozen": (CardFilter(status=CardStatus.FROZEN), "card_frozen"),
    "active": (CardFilter(status=CardStatus.ACTIVE), "card_expires"),
    "expired": (CardFilter(status=CardStatus.EXPIRED), "card_expires"),
    "a batch": (CardFilter(batch=LARGE), "card_batch"),
    "active of a batch": (CardFilter(batch=LARGE, status=CardStatus.ACTIVE), "card_batch_expires"),
    "a batch of one": (CardFilter(batch=sample_year.RARE_BATCH), "card_batch"),
    "no batch": (CardFilter(batch=""), "card_batch"),
    "a note of one": (CardFilter(note=NOTE[2:4]), "card_created"),
    "no such note": (CardFilter(note="_%", status=CardStatus.UNUSED), "card_unused"),  # no character is special
    "expiring this week": (CardFilter(expires_from=NOW, expires_before=NOW + WEEK), "card_expires"),
    "expiring, unused": (CardFilter(CardStatus.UNUSED, expires_from=NOW, expires_before=NOW + WEEK), ""),  # none
    "expired this week": (CardFilter(status=CardStatus.EXPIRED, expires_from=NOW - WEEK), "card_expires"),
    "by expiry, latest first": (CardFilter(sort=Sort.EXPIRY_LAST), "card_expires"),
    "expired by expiry, soonest first": (CardFilter(CardStatus.EXPIRED, sort=Sort.EXPIRY), "card_expires"),
    "active, oldest first": (CardFilter(CardStatus.ACTIVE, oldest_first=True), "card_created"),
    "all at once": (CardFilter(CardStatus.ACTIVE, LARGE, "代理", NOW, NOW + WEEK), "card_batch_expires"),
}


def expected(wanted: CardFilter, rows: list[Card]) -> list[str]:
    """The list, by the rules in Python."""
    last = datetime.max.replace(tzinfo=UTC)
    by_expiry = wanted.status in ("active", "expired") or wanted.sort is not None
    by_expiry = by_expiry or wanted.expires_from is not None or wanted.expires_before is not None
    ordered = by_expiry and not wanted.oldest_first
    found = [
        ((row.expires_at or last) if ordered else row.created_at, row.id)
        for row in rows
        if (wanted.status is None or cards.as_domain(row).status(NOW) is wanted.status)
        and (wanted.batch is None or (row.batch or "") == wanted.batch)
        and (wanted.note is None or wanted.note in (row.note or ""))
        and (not by_expiry or row.is_activated)
        and (wanted.expires_from is None or (row.expires_at or last) >= wanted.expires_from)
        and (wanted.expires_before is None or (row.expires_at or last) < wanted.expires_before)
    ]
    if wanted.sort is not None:
        return [card_id for _at, card_id in sorted(found, reverse=wanted.sort is Sort.EXPIRY_LAST)]
    descending = wanted.status == "expired" if ordered else not wanted.oldest_first
    return [card_id for _at, card_id in sorted(found, reverse=descending)]


def ids(rows: list[Card]) -> list[str]:
    return [card.id for card in rows]


def test_a_list_has_the_matching_cards_in_order_by_one_query_and_index(year: Database, all_cards: list[Card]) -> None:
    year.execute_sql("SET seq_page_cost = 10")  # as of a table ten times as large
    for name, (wanted, index) in FILTERS.items():
        right = expected(wanted, all_cards)
        assert [card.id for card in CardLists(lambda: NOW).every(wanted)] == right, name
        assert card_lists.count_at_most(wanted, NOW, 1_000) == min(len(right), 1_000), name
        assert ids(card_lists.page(wanted, NOW, limit=50)) == right[:50], name
        if right:
            at = len(right) // 2
            place = Cursor.parse(str(card_lists.cursor(wanted, cards.find(right[at]))))
            assert ids(card_lists.page(wanted, NOW, place, limit=50)) == right[at + 1 :][:50], name
            assert ids(card_lists.page(wanted, NOW, place, limit=50, backwards=True)) == right[:at][-50:], name
        with statements(year) as ran:
            card_lists.page(wanted, NOW, Cursor(NOW, "5"), limit=50)
        told = plan(year, *ran)
        assert (f" using {index} on card" if index else "One-Time Filter: false") in told, name
        assert "Seq Scan" not in told, name


def test_a_deep_page_reads_as_little_of_its_index_as_the_first(year: Database, all_cards: list[Card]) -> None:
    """What the status says and the cursor are two bounds on one side, and the scan has to begin at the nearer."""
    year.execute_sql("VACUUM card")  # of what another test has rolled back
    for status, backwards in product([CardStatus.ACTIVE, CardStatus.EXPIRED], [False, True]):
        wanted = CardFilter(status)
        listed = expected(wanted, all_cards)
        for card_id in (listed[0 if status is CardStatus.ACTIVE else -1], listed[len(listed) // 2]):
            place = card_lists.cursor(wanted, Card.get_by_id(card_id))
            with statements(year) as ran:
                card_lists.page(wanted, NOW, place, limit=50, backwards=backwards)
            assert blocks_read(year, ran[0], "card_expires") < 12, (status, backwards)


def found(text: str, **more: object) -> list[str]:
    wanted = card_lists.resolve_search(CardFilter(text=text, **more)).wanted  # type: ignore[arg-type]
    return ids(card_lists.page(wanted, NOW, limit=5_000))


def test_a_card_is_found_by_id_hardware_address_and_reference(year: Database) -> None:
    client = Client.select().order_by(Client.hardware.desc()).first()
    card_id = client.card_id
    grouped, hardware = "-".join(card_id[at : at + 4] for at in range(0, 32, 4)), client.hardware
    for text in (card_id, grouped, hardware, hardware[:20], hardware[:80], client.ip, f"::ffff:{client.ip}"):
        assert found(text) == [card_id], text
    for text in (card_id[:11].lower(), client.ip.rpartition(".")[0] + "."):
        assert card_id in found(text), text
    assert found(hardware[:80] + "!") == []
    event = Event.select().where(Event.code == "CARD_EXPIRED").first()
    for text in (event.reference.lower(), f"卡密已过期\uff08参考号\uff1a{event.reference}\uff09"):
        assert found(text) == [event.card_id]


def test_of_a_short_text_only_the_first_hits_are_found(
    year: Database, all_cards: list[Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_search, "MAX_HITS", 200)
    wanted, is_complete, _missing = card_lists.resolve_search(CardFilter(CardStatus.EXPIRED, text="board="))
    assert (is_complete, len(wanted.ids or ())) == (False, 200)
    right = [
        card_id for card_id in expected(CardFilter(CardStatus.EXPIRED), all_cards) if card_id in (wanted.ids or ())
    ]
    assert ids(card_lists.page(wanted, NOW, limit=500)) == right
    assert right


def test_an_address_is_found_in_every_notation(database: Database, verification: Verification) -> None:
    (card,) = Issuing(database, "tester", Clock()).issue(1, None).cards
    verification.verify(VerificationRequest.from_fields(card.id, "h", "f", "n" * 20, "2001:db8:ab::1"))
    for typed in ("2001:DB8", "2001:0db8:", "2001:0DB8:00ab:", "2001:db8:ab::1", "2001:0db8:00AB:0:0:0:0:1"):
        assert found(typed) == [card.id], typed
    assert found("2001:db80") == []


def test_each_kind_of_hit_is_a_scan_of_one_index(year: Database) -> None:
    # Of two thousand clients a thousand may well be read with the table; of a million they are not.
    year.execute_sql("SET enable_seqscan = off")
    for text in ("board=", "1", "1000000000000000", "abcdefgh"):
        with statements(year) as ran:
            card_search.find(text, whole_hardware=False)
        plans = [plan(year, statement) for statement in ran]
        assert len(plans) <= 5, text
        assert not [told for told in plans if "Seq Scan" in told or "Index" not in told], text


def test_sellers_lists_use_their_index(year: Database, all_cards: list[Card], monkeypatch: pytest.MonkeyPatch) -> None:
    own = [card for card in all_cards if card.id.startswith("15")][::2]
    seller = {"name": "sam", "role": "seller", "password_hash": "$argon2id$", "created_at": NOW}
    with year.atomic() as transaction:
        sam = Operator.insert(**seller, password_changed_at=NOW).execute()
        Card.update(operator_id=sam).where(Card.id << ids(own)).execute()
        year.execute_sql("ANALYZE card")
        for status in (None, CardStatus.ACTIVE):
            with statements(year) as ran:
                listed = ids(card_lists.page(CardFilter(status, operator_id=sam), NOW, limit=YEAR_CARDS))
            assert listed == expected(CardFilter(status), own)
            assert "card_operator" in plan(year, ran[0])
        right = expected(CardFilter(), own)
        for most_hits in (10_000, 20):
            monkeypatch.setattr(card_search, "MAX_HITS", most_hits)
            searched, is_complete, _missing = card_lists.resolve_search(CardFilter(text="15", operator_id=sam))
            hits = ids(card_lists.page(searched, NOW, limit=YEAR_CARDS))
            assert (is_complete, set(hits) <= set(right)) == (most_hits == 10_000, True)
            assert hits == right if is_complete else 0 < len(hits) <= most_hits
        transaction.rollback()


def test_all_cards_of_a_message_are_found_and_those_that_do_not_exist_are_named(database: Database) -> None:
    ours, key, mistyped = [f"{number:032}" for number in (1, 2)], "VIP2024-0001", "VIP2024-0002"
    cards.insert(database, [NewCard(card_id, None, None, None) for card_id in ours], NOW)
    Card.insert(id=card_id_of(key), imported_key=key, created_at=NOW).execute()
    text = f"老板, {ours[0]}、卡密:{'-'.join(ours[1])};{'7' * 32} 和 {key}, {mistyped} broken"
    resolved = card_lists.resolve_search(CardFilter(text=text))
    assert set(resolved.wanted.ids or ()) == {*ours, card_id_of(key)}
    assert resolved.missing == ("7" * 32,)
    of_seller = card_lists.resolve_search(CardFilter(text=text, operator_id=1))
    assert (set(of_seller.wanted.ids or ()), of_seller.missing) == (set(ours), ("7" * 32,))
    nothing = card_lists.resolve_search(CardFilter(text=f"{mistyped} 2025-1-1"))
    assert (nothing.wanted.note, nothing.missing) == (f"{mistyped} 2025-1-1", ())
    listed = card_lists.resolve_search(CardFilter(text=f"{key},{mistyped}"))
    assert (listed.wanted.ids, listed.missing) == ((card_id_of(key),), (mistyped,))


def test_a_malformed_cursor_is_none() -> None:
    for text in ["", ".", "x", "1.", "1.a b", "١.A", "9" * 400 + ".A", "-" + "9" * 17 + ".A", "1.Ä", "1.\x00", "1e5.A"]:
        assert Cursor.parse(text) in (None, Cursor(datetime(1970, 1, 1, microsecond=1, tzinfo=UTC), "A"))


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
def test_a_sellers_list_has_the_cards_that_they_issued_and_finds_their_notes(owner: Browser, seller: Browser) -> None:
    for query in ("", "?status=active", "?sort=expiry", "?expires=7d"):
        page = seller.get(f"/admin/cards{query}")
        assert (OWN in page.text, "WXYZ" in page.text, "共 1 张" in page.words) == (True, False, True), query
        assert "这里只有您自己发出的卡密" in page.words
        assert OTHER in owner.get(f"/admin/cards{query}").text
    Card.update(note=f"order {OTHER[:4]}").where(Card.id == OWN).execute()
    page = search(seller, OTHER[:4])
    assert (OWN in page.text, "共 1 张" in page.words) == (True, True)


@pytest.mark.usefixtures("both")
def test_a_whole_key_or_machine_shows_the_card_and_no_beginning_does(owner: Browser, seller: Browser) -> None:
    for typed in (OTHER, f" {OTHER[:8]}-{OTHER[8:].lower()}", f"{OTHER}, {OWN}"):
        assert card_link(OTHER) in search(seller, typed).links, typed
    assert card_link(OTHER) not in search(seller, OTHER, status="frozen").links
    assert seller.get(f"/admin/card?id={OTHER}").status == 200
    for length in (1, 4, 31):
        assert OTHER not in search(seller, OTHER[:length]).text
        assert OTHER in search(owner, OTHER[:length]).text
        assert OWN in search(seller, OWN[:length]).text
    bind(OWN, HARDWARE)
    for typed, is_found in (("board=", False), (HARDWARE[:-1], False), (HARDWARE, True)):
        assert (OWN in search(owner, typed).text, OWN in search(seller, typed).text) == (True, is_found), typed


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


def test_a_seller_reads_their_own_and_named_entries(owner: Browser, seller: Browser, both: tuple[str, str]) -> None:
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


def test_overview_and_report_name_a_sellers_own_cards(owner: Browser, seller: Browser, both: tuple[str, str]) -> None:
    now = datetime.now(UTC)
    for card in both:
        journal.append([rejected(card)])
        for number in range(5):
            change(card, Environment("pc", "203.0.113.7"), Environment(f"pc {number}", "203.0.113.7"), now)
    for path in ("/admin/", "/admin/sharing"):
        pages = seller.get(path), owner.get(path)
        assert [(OWN in page.text, OTHER in page.text) for page in pages] == [(True, False), (True, True)], path


def test_tracebacks_and_webhooks_urls_are_for_owners(owner: Browser, seller: Browser, both: tuple[str, str]) -> None:
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
