"""The filters of cards and of the journal, read from typed texts."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.domain.codes import CardStatus, Code
from app.domain.texts import RefusedError
from app.services.filters import parse_card_filter, parse_journal_filter
from app.storage.card_lists import CardFilter, Sort
from app.storage.journal_lists import JournalFilter
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


@for_each(("preset", "since", "until"), [("7d", 0, 7), ("30d", 0, 30), ("past7d", -7, 0), ("past30d", -30, 0)])
def test_presets_of_expiry_count_from_now(preset: str, since: int, until: int) -> None:
    wanted = card_filter(expires=preset)
    assert (wanted.expires_from, wanted.expires_before) == (NOW + timedelta(since), NOW + timedelta(until))


def test_entries_are_filtered_by_all_fields_and_texts_of_clients_are_exact() -> None:
    assert journal_filter() == journal_filter(kind="", card=" ", hardware="") == JournalFilter()
    wanted = journal_filter(kind="CARD_EXPIRED", card="c" * 32, hardware=" h ", address="2001:db8::1", reference="abcd")
    assert wanted == JournalFilter(Code.CARD_EXPIRED, "C" * 32, " h ", "2001:db8::/64", reference="ABCD")
