"""Card IDs and keys as people type and paste them, durations, validities and statuses, and filters of lists."""
# Owns verdict-card-id, verdict-expiry.

import hashlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.cards import cards
from app.domain.cards.cards import CardFacts, ValidityError
from app.domain.cards.pasted import bare_reference, ids_in, keys_in, listed_keys, reference_in
from app.domain.codes import CardStatus, Code
from app.domain.texts import RefusedError
from app.services.cards.filters import parse_card_filter, parse_journal_filter
from app.services.journal.journal_lists import JournalFilter
from app.storage.card_lists import CardFilter, Sort

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
WHOLE_NOW = NOW.replace(microsecond=0)
DAY = timedelta(days=1)
ID = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
UNUSED = CardFacts(ID, 30 * DAY, None, None, None)
ACTIVE = UNUSED._replace(activated_at=WHOLE_NOW - DAY, expires_at=WHOLE_NOW + 29 * DAY)
EXPIRED = UNUSED._replace(activated_at=WHOLE_NOW - 40 * DAY, expires_at=WHOLE_NOW - 10 * DAY)
FROZEN = ACTIVE._replace(frozen_at=NOW - DAY)
PERMANENT = ACTIVE._replace(validity=None, expires_at=None)
ids = st.binary(min_size=cards.ID_RANDOM_BYTES, max_size=cards.ID_RANDOM_BYTES).map(cards.id_from_random)
lifetimes = st.integers(1, 100 * 365 * 86_400).map(lambda seconds: timedelta(seconds=seconds))


@given(ids)
def test_a_new_id_is_crockfords_base32_and_reads_as_itself_grouped_and_in_lower_case(card_id: str) -> None:
    assert (len(card_id), set(card_id) <= set(ID)) == (32, True)
    grouped = "-".join(card_id[i : i + 4] for i in range(0, len(card_id), 4))
    for text in (card_id, grouped, grouped.lower()):
        assert cards.parse_card_id(text) == cards.card_id_of(text) == card_id


def test_an_id_is_base32_of_20_bytes_read_as_people_type_it_and_so_is_its_beginning() -> None:
    number = 0x0123_4567_89AB_CDEF_0123_4567_89AB_CDEF_0123_4567
    expected = "".join(ID[number >> shift & 31] for shift in range(155, -1, -5))
    assert cards.id_from_random(number.to_bytes(20, "big")) == expected
    for length in (0, 19, 21, 32):
        with pytest.raises(ValueError, match="20 random bytes"):
            cards.id_from_random(bytes(length))
    for typed, read in (
        *(
            (between + between.join(ID) + between, ID)
            for between in " \t\n\u00a0\u3000-\u2010\u2013\u2014\uff0d_\u200b"
        ),
        *((letter + ID[1:], digit + ID[1:]) for letter, digit in zip("IiLlOo", "111100", strict=True)),
        *((other + ID[1:], None) for other in "Uu\0\ud800"),
        # U in full width, a digit, and letters of Unicode's upper and lower case.
        *((other + ID[1:], None) for other in "\uff35\u0660\u0131\u017f\u212a"),
        *((text, None) for text in ("", " ", "-" * 32, ID[:-1], ID + "0", f'{ID[:16]}"{ID[16:]}', f"my card:{ID}")),
    ):
        assert cards.parse_card_id(typed) == read, (typed, read)
    beginnings = {"0": "0", "abcd-ef": "ABCDEF", " oil ": "011", ID: ID, "Ａ": "A", "卡密\uff1aab_cd": "ABCD"}
    for text, beginning in (*beginnings.items(), *((other, None) for other in (ID + "0", "", "--", "abu"))):
        assert cards.parse_card_id_beginning(text) == beginning, text


@given(st.text())
def test_any_text_names_one_card_by_an_id_or_as_a_key(text: str) -> None:
    read = cards.parse_card_id(text)
    assert read is None or cards.parse_card_id(read) == read
    named = cards.card_id_of(text)
    assert cards.card_id_of(named) == named
    assert cards.card_id_of(f" \t\u3000{text}\n") == named


ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"
LABELS = ["卡密", "卡号", "激活码", "授权码", "注册码", "序列号", "card", "KEY", "Code", "licenSE"]
QUOTES = "\"'\u201c\u201d\u2018\u2019\u300c\u300d\u300e\u300f\u00ab\u00bb\uff02\uff07\uff62\uff63"
noise = st.text(alphabet=f" \t\r\n\u00a0\u3000{QUOTES}{ZERO_WIDTH}", max_size=4)
labels = st.builds(lambda *parts: "".join(parts), noise, st.sampled_from(LABELS), noise, st.sampled_from(":\uff1a"))
imported = st.text(alphabet="aB3LIO0-_ .+/:;#老王", min_size=6, max_size=30).filter(
    lambda key: cards.plain(key) == key and cards.parse_card_id(key) is None
)


def widened(text: str) -> str:
    """The text as a Chinese keyboard in full-width mode types it."""
    return "".join({" ": "\u3000"}.get(c, chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c) for c in text)


@given(st.one_of(ids, imported), st.lists(labels, max_size=3), noise, noise, st.sampled_from(ZERO_WIDTH))
def test_what_is_pasted_with_a_card_does_not_count(
    card: str, before: list[str], gap: str, after: str, invisible: str
) -> None:
    text = "".join(before) + gap + card[:5] + invisible + card[5:] + after
    for pasted in (text, widened(text)):
        assert cards.card_id_of(pasted) == cards.card_id_of(card)
        assert cards.plain(pasted) == card


def test_a_key_of_another_system_names_the_first_160_bits_of_its_digest_without_what_surrounds_it() -> None:
    for text, key in (
        ("老王-0001 ", "老王-0001"),
        ('"卡密\uff1aVIP-1 2"', "VIP-1 2"),
        ('{"card": "VIP-1"}', '{"card": "VIP-1"}'),
        ('"card" : "VIP-1"', "VIP-1"),
        *((key, key) for key in ("老王-0001", "卡密 VIP-1", "mykey:VIP-1", "VIP\u201c1")),
        ("\u212aey:VIP-1", "\u212aey:VIP-1"),  # the Kelvin sign, k to Unicode
        ("\uff37\u3000x", "W x"),
        ("卡密\uff1a", ""),
        (f" {QUOTES}{ZERO_WIDTH}", ""),
    ):
        digest = hashlib.sha256(f"kadun-imported-key\n{key}".encode()).digest()
        assert cards.plain(text) == key, (text, key)
        assert cards.card_id_of(text) == cards.id_from_random(digest[:20]), (text, key)
    assert cards.card_id_of("abcdef") == "YEAYWYQSTK9BDAQQGENRGZBJ65M6J2AJ"  # for ever
    assert len({cards.card_id_of(key) for key in ("abcdef", "ABCDEF", "abc-def", "abc def")}) == 4
    assert len(cards.card_id_of("\udcff" * 8)) == cards.ID_LENGTH, "what a command line cannot decode: nobody's"


def test_an_imported_key_is_printable_and_a_short_or_numbered_one_can_be_guessed() -> None:
    for key in ("abcdef", "老王的卡密一", "a b c d", "x" * 64, "{AB-12}"):
        cards.check_imported_key(key)
    others = ["", "abcde", "x" * 65, " abcdef", "abcdef\u3000", "abc\ndef", "abc\u202edef", "abc\0def"]
    for other in (*others, "key:abcdef", "\uff21bcdef"):  # which are read as other texts
        with pytest.raises(RefusedError, match=r"6 to 64 printable characters without white space at its ends$"):
            cards.check_imported_key(other)
    for guessable, longer in (
        ("12345678901234", "123456789012345"),
        ("ABCDEFGHIJ", "ABCDEFGHIJK"),
        ("A1B2C3D4E", "A1B2C3D4E5"),
        ("aB3dE6gH", "aB3dE6gH9"),
    ):
        assert [cards.is_guessable(key) for key in (guessable, longer)] == [True, False], guessable
    assert all(cards.is_guessable(key) for key in ("1234-5678-9012-34", "------", "一二三四五六"))
    others = [f"{number:02}-VIP2024000001" for number in range(30)]
    for count, expected in ((20, 0), (21, 21), (1_000, 1_000)):
        alike = [f"VIP2024{number:06}" for number in range(count)]
        assert cards.numbered(alike + others) == alike[:expected], "they differ only in their last six characters"
    assert not cards.is_guessable("VIP2024000000")
    assert cards.numbered(f"VIP-20{number:04}-ABCDEF" for number in range(30)) == [], "they differ earlier"


def test_a_duration_is_read_and_any_other_text_refused_in_both_languages() -> None:
    for duration, texts in (
        (timedelta(seconds=30), "30s"),
        (timedelta(minutes=45), "45m"),
        (timedelta(hours=12), "12h"),
        (DAY, "day 天卡 1d"),
        (7 * DAY, "1w week 周卡 007d"),
        (30 * DAY, "30d month 月卡"),
        (90 * DAY, "quarter 季卡"),
        (365 * DAY, "year 年卡"),
        (cards.MIN_VALIDITY, "1s"),
        (cards.MAX_VALIDITY, "36500d 3153600000s"),
    ):
        for text in texts.split():
            assert cards.parse_duration(text) == cards.parse_validity(text) == duration, text
    malformed = "30 d|30|d| 30d|30d\n|-1d|1.5d|1e3s|30D|1y|1d1h|３０d|12345678901s|Month||\u3000|permanent|永久"
    for text, zh, en in (
        *((text, "不是有效时长", "is no duration") for text in malformed.split("|")),
        *((text, "超出范围", "from 1 second to 100 years") for text in ("0s", "0d", "36501d", "3153600001s")),
    ):
        with pytest.raises(ValidityError, match=en) as refusal:
            pytest.fail(f"{text} is read as {cards.parse_duration(text)}")
        assert zh in refusal.value.text.zh


@given(st.none() | lifetimes)
def test_a_validity_is_written_as_it_is_read_in_the_largest_unit_that_divides_it(some: timedelta | None) -> None:
    assert cards.parse_validity(cards.format_validity(some)) == some
    for validity, text, words in (
        (None, "permanent", ("永久", "permanent")),
        (30 * DAY, "30d", ("30 天", "30 days")),
        (DAY, "1d", ("1 天", "1 day")),
        (timedelta(hours=36), "36h", ("36 小时", "36 hours")),
        (timedelta(minutes=90), "90m", ("90 分钟", "90 minutes")),
        (timedelta(seconds=90), "90s", ("90 秒", "90 seconds")),
    ):
        assert (cards.format_validity(validity), cards.validity_text(validity)) == (text, words), (validity, text)
    assert [cards.parse_validity(name) for name in ("permanent", "永久", "永久卡")] == [None] * 3
    for name in ("天卡", "周卡", "月卡", "季卡", "年卡", "永久"):
        assert cards.trade_name(cards.parse_validity(name)) == name
    assert cards.trade_name(2 * DAY) is None


def test_the_status_is_the_first_that_applies_and_a_card_answers_to_its_own_key() -> None:
    for card, status in (
        (UNUSED, CardStatus.UNUSED),
        (ACTIVE, CardStatus.ACTIVE),
        (EXPIRED, CardStatus.EXPIRED),
        (ACTIVE._replace(expires_at=NOW), CardStatus.EXPIRED),
        (PERMANENT, CardStatus.ACTIVE),
        (UNUSED._replace(frozen_at=NOW), CardStatus.FROZEN),
        (EXPIRED._replace(frozen_at=NOW), CardStatus.FROZEN),
    ):
        assert card.status(NOW) is status, (card, status)
        assert card.is_activated is (card.activated_at is not None), (card, status)
    # Of an imported card only the key shows that somebody has it.
    assert cards.answers_to("OLD-KEY-1", is_imported=True)
    assert not cards.answers_to(cards.card_id_of("OLD-KEY-1"), is_imported=True)
    assert not cards.answers_to(f"card: {cards.card_id_of('OLD-KEY-1').lower()}", is_imported=True)
    assert cards.answers_to("0" * 32, is_imported=False)
    assert cards.masked("ABCDEFGH" * 4) == "ABCD•••", "for those who may not have it"


ZONE = ZoneInfo("Asia/Shanghai")


def card_filter(**fields: str) -> CardFilter:
    return parse_card_filter(fields, ZONE, NOW)


def journal_filter(**fields: str) -> JournalFilter:
    return parse_journal_filter(fields, ZONE)


def test_an_invalid_field_is_named_with_what_would_be_right() -> None:
    no_day, a_day = "is not a date and time; write 2026-01-31", "9999-12-31"
    for read, field, value, said in (
        (card_filter, "status", "odd", "there is no “odd”; use one of spent, frozen, expired, active, unused"),
        (card_filter, "expires", "8d", "there is no “8d”; use one of 7d, 30d, past7d, past30d"),
        (card_filter, "sort", "odd", "there is no “odd”; use one of expiry, -expiry"),
        (card_filter, "batch", "x" * 201, "at most 200 characters"),
        (card_filter, "q", "x" * 1025, "at most 1024 characters"),
        (card_filter, "q", "\udcff", "the text is not UTF-8"),
        (journal_filter, "kind", "odd", "there is no kind of entry and no code “odd”"),
        (journal_filter, "address", "300.1.1.1", "“300.1.1.1” is not an IP address"),
        (card_filter, "expires_from", "soon", f"“soon” {no_day}"),
        (card_filter, "expires_from", a_day, f"“{a_day}” {no_day}"),
        (card_filter, "expires_before", "0001-01-01", f"“0001-01-01” {no_day}"),
        (journal_filter, "since", "0001-01-01", f"“0001-01-01” {no_day}"),
    ):
        with pytest.raises(RefusedError) as refusal:
            read(**{field: value})
        assert refusal.value.text.en.startswith(f"{field}: {said}"), (field, value)
        assert refusal.value.text.zh.startswith(f"{field}："), (field, value)


def test_lists_are_filtered_by_all_fields_in_an_order_by_name_and_empty_fields_do_not_filter() -> None:
    assert card_filter() == card_filter(status="", batch="", q=" ") == CardFilter()
    wanted = card_filter(status="active", batch=" b ", note="n", expires="7d", expires_from="2026-03-02", q=" text ")
    day = datetime(2026, 3, 2, tzinfo=ZONE)
    assert wanted == CardFilter(CardStatus.ACTIVE, "b", "n", day, NOW + timedelta(days=7), "text")
    assert card_filter(no_batch="1", batch="b").batch == ""
    assert card_filter(sort="-expiry") == CardFilter(sort=Sort.EXPIRY_LAST)
    assert card_filter(sort="expiry", status="frozen") == CardFilter(CardStatus.FROZEN, sort=Sort.EXPIRY)
    assert card_filter(sort="expiry", status="unused") == CardFilter(CardStatus.UNUSED), "unused cards have none"
    for preset, since, until in (("7d", 0, 7), ("30d", 0, 30), ("past7d", -7, 0), ("past30d", -30, 0)):
        wanted = card_filter(expires=preset)
        assert (wanted.expires_from, wanted.expires_before) == (NOW + timedelta(since), NOW + timedelta(until))
    assert journal_filter() == journal_filter(kind="", card=" ", hardware="") == JournalFilter()
    fields = {
        "kind": "CARD_EXPIRED",
        "card": "c" * 32,
        "hardware": " h ",
        "address": "2001:db8::1",
        "reference": "abcd",
    }
    assert journal_filter(**fields) == JournalFilter(
        Code.CARD_EXPIRED, "C" * 32, " h ", "2001:db8::/64", reference="ABCD"
    )


def test_a_reference_is_found_by_its_words_and_without_words_read_as_typed() -> None:
    for text, reference in (
        ("卡密已绑定其他设备。如果您更换了设备,请联系卖家解绑。(参考号:K7M2Q9XD)", "K7M2Q9XD"),
        ("This card is frozen: please contact the seller. (reference: k7m2q9xd)", "K7M2Q9XD"),
        ("卡密已绑定其他设备\uff08参考号\uff1aK7M2Q9XD\uff09", "K7M2Q9XD"),
        ("Reference K7M2Q9XO?", "K7M2Q9X0"),
        *((text, None) for text in ("参考号:K7M2Q9XD9", "参考号:K7M2Q9", "preference K7M2Q9XD", "参考号:UUUUUUUU")),
        *((text, None) for text in ("K7M2Q9XD", "")),
    ):
        assert reference_in(text) == reference, text
    assert bare_reference(" k7m2-q9xo ") == "K7M2Q9X0"
    others = ("K7M2Q9X", "K7M2Q9XDD", "春季批次八个字的", "")
    assert [bare_reference(other) for other in others] == [None] * len(others)


def test_all_cards_and_keys_of_a_text_are_found_and_keys_listed_only_where_every_word_is_like_one() -> None:
    for text in (
        f"我的卡密 {ID.lower()} 打不开",
        "卡密:01234567-89ABCDEF-GHJKMNPQ-RSTVWXYZ,今天打不开",
        f"order {'9' * 33} card {ID}.",
        f"\u5361\u53f7\uff1a\u201c{ID[:9]}\u200b_{ID[9:]}\u201d",
        ID.replace("A", "\uff21"),
        f"{ID}, {ID.lower()}",
    ):
        assert ids_in(text) == [ID], text
    several = [f"{digit}{ID[1:]}" for digit in "0123456789"]
    for between in (" ", "\n", ", ", "\u3001", "; card: ", "/"):
        assert ids_in(between.join([*several, ID])) == several
    for other in ("", "no card here", ID[:-1], f"{ID}0", "-" * 40, "U" * 32):
        assert ids_in(other) == []
    for text, keys in (
        ("我的卡密 VIP-2024-8K3M 打不开", ["VIP-2024-8K3M"]),
        ("卡号\uff1aVIP-2024-8K3M\uff0c今天提示设备不符", ["VIP-2024-8K3M", "今天提示设备不符"]),
        ("card VIP-2024-8K3M, please", ["VIP-2024-8K3M,", "VIP-2024-8K3M", "please"]),
        ("card VIP-2024-8K3M! please", ["VIP-2024-8K3M!", "VIP-2024-8K3M", "please"]),
        (f"{'x' * 64} short", ["x" * 64]),
        ('key:VIP-2024-8K3M "VIP-2024-8K3N"', ["VIP-2024-8K3M", "VIP-2024-8K3N"]),
        (f"{ID} VIP-2024-8K3M", ["VIP-2024-8K3M"]),
        ("VIP-100,VIP-200;VIP-300", ["VIP-100,VIP-200;VIP-300", "VIP-100", "VIP-200", "VIP-300"]),
        (f"{ID};VIP-100", ["VIP-100"]),
        *((text, []) for text in ("VIP-2024-8K3M", "", f"{'x' * 65} short")),
        ("wordword " * 60, ["wordword"]),
    ):
        assert keys_in(text) == keys, (text, keys)
    for text, keys in (
        ("VIP-100, VIP-200!", ["VIP-100", "VIP-200"]),
        ("VIP-100,VIP-200\uff1bVIP-300", ["VIP-100", "VIP-200", "VIP-300"]),
        ("VIP-10 VIP-20", ["VIP-10", "VIP-20"]),
        ("10000001 10000002", ["10000001", "10000002"]),
        *((f"VIP-100 {other}", []) for other in ("2026-11-29", "123456789", "PC-01", "打不开了2次")),
        *((text, []) for text in ("my card VIP-100", f"{ID} 123456789", f"{ID} VIP-100", "")),
    ):
        assert listed_keys(text) == keys, (text, keys)
