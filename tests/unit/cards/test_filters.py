"""The filters of cards and of the journal, and what people paste into the search box."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.domain.cards.pasted import bare_reference, ids_in, keys_in, listed_keys, reference_in
from app.domain.codes import CardStatus, Code
from app.domain.texts import RefusedError
from app.services.cards.filters import parse_card_filter, parse_journal_filter
from app.services.journal.journal_lists import JournalFilter
from app.storage.card_lists import CardFilter, Sort
from tests.support.tables import for_each

ZONE, NOW = ZoneInfo("Asia/Shanghai"), datetime(2026, 3, 1, tzinfo=UTC)
BROKEN = [
    ("status", "odd", "there is no “odd”; use one of spent, frozen, expired, active, unused"),
    ("expires", "8d", "there is no “8d”; use one of 7d, 30d, past7d, past30d"),
    ("sort", "odd", "there is no “odd”; use one of expiry, -expiry, used, -used"),
    ("expires_from", "soon", "“soon” is not a date and time; write 2026-01-31"),
    ("batch", "x" * 201, "at most 200 characters"),
    ("q", "x" * 1025, "at most 1024 characters"),
    ("q", "\udcff", "the text is not UTF-8"),
    ("kind", "odd", "there is no kind of entry and no code “odd”"),
    ("address", "300.1.1.1", "“300.1.1.1” is not an IP address"),
    *(
        (field, day, f"“{day}” is not a date and time; write 2026-01-31")
        for field, day in (("expires_from", "9999-12-31"), ("expires_before", "0001-01-01"), ("since", "0001-01-01"))
    ),
]


def card_filter(**fields: str) -> CardFilter:
    return parse_card_filter(fields, ZONE, NOW)


def journal_filter(**fields: str) -> JournalFilter:
    return parse_journal_filter(fields, ZONE)


@for_each(("field", "value", "said"), BROKEN)
def test_an_invalid_field_is_named_with_what_would_be_right(field: str, value: str, said: str) -> None:
    of_journal = field in {"kind", "address", "since"}
    with pytest.raises(RefusedError) as refusal:
        (journal_filter if of_journal else card_filter)(**{field: value})
    assert refusal.value.text.en.startswith(f"{field}: {said}")
    assert refusal.value.text.zh.startswith(f"{field}：")


def test_cards_are_filtered_by_all_fields_in_an_order_by_name_and_empty_fields_do_not_filter() -> None:
    assert card_filter() == card_filter(status="", batch="", q=" ") == CardFilter()
    wanted = card_filter(status="active", batch=" b ", note="n", expires="7d", expires_from="2026-03-02", q=" text ")
    day = datetime(2026, 3, 2, tzinfo=ZONE)
    assert wanted == CardFilter(CardStatus.ACTIVE, "b", "n", day, NOW + timedelta(days=7), "text")
    assert card_filter(no_batch="1", batch="b").batch == ""
    assert card_filter(sort="-used") == CardFilter(sort=Sort.USED)
    assert card_filter(sort="expiry", status="frozen") == CardFilter(CardStatus.FROZEN, sort=Sort.EXPIRY)
    assert card_filter(sort="expiry", status="unused") == CardFilter(CardStatus.UNUSED), "unused cards have none"
    for preset, since, until in (("7d", 0, 7), ("30d", 0, 30), ("past7d", -7, 0), ("past30d", -30, 0)):
        wanted = card_filter(expires=preset)
        assert (wanted.expires_from, wanted.expires_before) == (NOW + timedelta(since), NOW + timedelta(until))


def test_entries_are_filtered_by_all_fields_and_texts_of_clients_are_exact() -> None:
    assert journal_filter() == journal_filter(kind="", card=" ", hardware="") == JournalFilter()
    wanted = journal_filter(kind="CARD_EXPIRED", card="c" * 32, hardware=" h ", address="2001:db8::1", reference="abcd")
    assert wanted == JournalFilter(Code.CARD_EXPIRED, "C" * 32, " h ", "2001:db8::/64", reference="ABCD")


CARD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def test_a_reference_is_found_by_its_words_and_without_words_read_as_typed() -> None:
    for text, reference in (
        ("卡密已绑定其他设备。如果您更换了设备,请联系卖家解绑。(参考号:K7M2Q9XD)", "K7M2Q9XD"),
        ("This card is frozen: please contact the seller. (reference: k7m2q9xd)", "K7M2Q9XD"),
        ("卡密已绑定其他设备\uff08参考号\uff1aK7M2Q9XD\uff09", "K7M2Q9XD"),
        ("Reference K7M2Q9XO?", "K7M2Q9X0"),
        ("参考号:K7M2Q9XD9", None),
        ("参考号:K7M2Q9", None),
        ("preference K7M2Q9XD", None),
        ("参考号:UUUUUUUU", None),
        ("K7M2Q9XD", None),
        ("", None),
    ):
        assert reference_in(text) == reference, text
    assert bare_reference(" k7m2-q9xo ") == "K7M2Q9X0"
    others = ("K7M2Q9X", "K7M2Q9XDD", "春季批次八个字的", "")
    assert [bare_reference(other) for other in others] == [None] * len(others)


def test_a_card_is_found_amid_other_words() -> None:
    for text in (
        f"我的卡密 {CARD.lower()} 打不开",
        "卡密:01234567-89ABCDEF-GHJKMNPQ-RSTVWXYZ,今天打不开",
        f"order {'9' * 33} card {CARD}.",
        f"\u5361\u53f7\uff1a\u201c{CARD[:9]}\u200b_{CARD[9:]}\u201d",
        CARD.replace("A", "\uff21"),
        f"{CARD}, {CARD.lower()}",
    ):
        assert ids_in(text) == [CARD], text


def test_all_cards_of_a_text_are_found_and_nothing_else() -> None:
    cards = [f"{digit}{CARD[1:]}" for digit in "0123456789"]
    for between in (" ", "\n", ", ", "\u3001", "; card: ", "/"):
        assert ids_in(between.join([*cards, CARD])) == cards
    for other in ("", "no card here", CARD[:-1], f"{CARD}0", "-" * 40, "U" * 32):
        assert ids_in(other) == []


def test_words_that_may_be_imported_keys() -> None:
    for text, keys in (
        ("我的卡密 VIP-2024-8K3M 打不开", ["VIP-2024-8K3M"]),
        ("卡号\uff1aVIP-2024-8K3M\uff0c今天提示设备不符", ["VIP-2024-8K3M", "今天提示设备不符"]),
        ("card VIP-2024-8K3M, please", ["VIP-2024-8K3M,", "VIP-2024-8K3M", "please"]),
        ("card VIP-2024-8K3M! please", ["VIP-2024-8K3M!", "VIP-2024-8K3M", "please"]),
        (f"{'x' * 64} short", ["x" * 64]),
        ('key:VIP-2024-8K3M "VIP-2024-8K3N"', ["VIP-2024-8K3M", "VIP-2024-8K3N"]),
        (f"{CARD} VIP-2024-8K3M", ["VIP-2024-8K3M"]),
        ("VIP-100,VIP-200;VIP-300", ["VIP-100,VIP-200;VIP-300", "VIP-100", "VIP-200", "VIP-300"]),
        (f"{CARD};VIP-100", ["VIP-100"]),
        ("VIP-2024-8K3M", []),
        ("", []),
        (f"{'x' * 65} short", []),
        ("wordword " * 60, ["wordword"]),
    ):
        assert keys_in(text) == keys, (text, keys)


def test_keys_are_listed_only_where_every_word_is_like_a_key() -> None:
    for text, keys in (
        ("VIP-100, VIP-200!", ["VIP-100", "VIP-200"]),
        ("VIP-100,VIP-200\uff1bVIP-300", ["VIP-100", "VIP-200", "VIP-300"]),
        ("VIP-10 VIP-20", ["VIP-10", "VIP-20"]),
        ("10000001 10000002", ["10000001", "10000002"]),
        *((f"VIP-100 {other}", []) for other in ("2026-11-29", "123456789", "PC-01", "打不开了2次")),
        *((text, []) for text in ("my card VIP-100", f"{CARD} 123456789", f"{CARD} VIP-100", "")),
    ):
        assert listed_keys(text) == keys, (text, keys)
