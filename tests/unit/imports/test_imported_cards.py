"""How a card was used, from what a line of an imported file says, and durations and times as people write them."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.cards.cards import MAX_VALIDITY, MIN_VALIDITY
from app.domain.codes import CardStatus
from app.domain.imports.imported_cards import Chosen, ContradictionError, Line, use_of, validity_of
from app.domain.texts import RefusedError
from app.services.imports.import_times import NEVER, read_time, read_validity
from tests.support.tables import for_each

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
WHOLE = NOW.replace(microsecond=0)
DAY = timedelta(days=1)
MONTH = 30 * DAY
A, B = WHOLE - 10 * DAY, WHOLE + 25 * DAY
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
UNUSED, ACTIVE, EXPIRED, FROZEN = CardStatus.UNUSED, CardStatus.ACTIVE, CardStatus.EXPIRED, CardStatus.FROZEN


def test_a_card_is_unused_or_has_the_times_that_its_line_says_or_that_follow() -> None:
    for line, use in (
        *[
            (Line(validity, status=status), (None, None))
            for status in (None, UNUSED, FROZEN)
            for validity in (None, MONTH)
        ],
        (Line(MONTH, A), (A, A + MONTH)),
        (Line(MONTH, A, B, ACTIVE, "h"), (A, B)),
        (Line(MONTH, A, A + DAY, EXPIRED), (A, A + DAY)),
        (Line(MONTH, WHOLE), (WHOLE, WHOLE + MONTH)),
        (Line(MONTH, None, B), (B - MONTH, B)),
        (Line(MONTH, None, B + 90 * DAY), (WHOLE, B + 90 * DAY)),
        (Line(MONTH, None, EARLIEST + DAY), (EARLIEST, EARLIEST + DAY)),
        (Line(MONTH, EARLIEST), (EARLIEST, EARLIEST + MONTH)),
        (Line(MONTH, A, WHOLE + MAX_VALIDITY), (A, WHOLE + MAX_VALIDITY)),
        (Line(MONTH, A, WHOLE, EXPIRED), (A, WHOLE)),
        (Line(None, status=ACTIVE), (WHOLE, None)),
        (Line(None, hardware="h"), (WHOLE, None)),
        (Line(None, A, datetime(2099, 1, 1, tzinfo=UTC)), (A, None)),
    ):
        assert use_of(line, NOW) == use, (line, use)
    assert use_of(Line(MONTH, WHOLE), WHOLE) == (WHOLE, WHOLE + MONTH), "at this very moment"


@for_each(
    ("line", "column"),
    [
        (Line(MONTH, A, status=UNUSED), "status"),
        (Line(MONTH, status=UNUSED, hardware="h"), "status"),
        (Line(MONTH, status=ACTIVE), "activated_at"),
        (Line(MONTH, status=EXPIRED), "activated_at"),
        (Line(MONTH, hardware="h"), "activated_at"),
        (Line(MONTH, WHOLE + DAY), "activated_at"),
        (Line(MONTH, datetime(1999, 12, 31, tzinfo=UTC)), "activated_at"),
        (Line(MONTH, A, A), "expires_at"),
        (Line(MONTH, A, WHOLE + 36_501 * DAY), "expires_at"),
        (Line(MONTH, None, datetime(1, 1, 2, tzinfo=UTC)), "expires_at"),
        (Line(MONTH, A, B, EXPIRED), "status"),
        (Line(None, A, B), "expires_at"),
        (Line(None, A, datetime(2098, 12, 31, tzinfo=UTC)), "expires_at"),
        (Line(None, status=EXPIRED), "status"),
    ],
)
def test_a_contradiction_names_its_column(line: Line, column: str) -> None:
    with pytest.raises(ContradictionError) as refused:
        use_of(line, NOW)
    assert refused.value.column == column


moments = st.none() | st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=0))
lines = st.builds(
    Line,
    st.none() | st.integers(1, 36_500 * 86_400).map(lambda seconds: timedelta(seconds=seconds)),
    moments,
    moments,
    st.none() | st.sampled_from(CardStatus),
    st.none() | st.just("h"),
)


@for_each(
    ("line", "validity"),
    [
        (Line(None), MONTH),
        (Line(None, None, NOW + 33 * DAY), 33 * DAY),
        (Line(None, None, NOW + 33 * DAY + timedelta(seconds=1)), 34 * DAY),
        (Line(None, None, A, EXPIRED), DAY),
        (Line(None, A, B), B - A),
        (Line(None, None, datetime(2099, 1, 1, tzinfo=UTC)), None),
    ],
)
def test_a_file_without_validities_has_those_of_cards_in_use(line: Line, validity: timedelta | None) -> None:
    assert validity_of(line, Chosen(MONTH), NOW) == validity
    unknown = {"validity": Line(None), "expires_at": Line(None, hardware="h")}
    for column, without in (*unknown.items(), ("expires_at", Line(None, A))):
        with pytest.raises(ContradictionError) as refused:
            validity_of(without, None, NOW)
        assert refused.value.column == column


@given(lines, st.booleans())
def test_every_line_is_a_card_that_the_database_takes_or_a_contradiction(line: Line, has_validity: bool) -> None:  # noqa: FBT001
    try:
        if not has_validity:
            line = line._replace(validity=validity_of(line, Chosen(line.validity), NOW))
            assert line.validity is None or MIN_VALIDITY <= line.validity <= MAX_VALIDITY
        activated_at, expires_at = use_of(line, NOW)
    except ContradictionError:
        return
    if activated_at is None:
        assert expires_at is None
        return
    assert activated_at <= NOW
    assert (expires_at is None) == (line.validity is None)
    assert expires_at is None or expires_at > activated_at


ZONE = ZoneInfo("Asia/Shanghai")
MARCH = datetime(2026, 3, 1, tzinfo=ZONE)


def test_durations_are_read_as_people_write_them() -> None:
    for days, cells in (
        (1, "天卡,日卡,1天,1d,day,24h,24小时,1日,1 Day"),
        (7, "周卡,1周,7天,7d,week,1w,1星期,1周卡"),
        (30, "月卡,1月,1个月,30天,30d,month,1 month,30D,30天卡,1mo"),
        (60, "2个月,2 months,60days"),
        (90, "季卡,1季,1季度,quarter,90d,3个月"),
        (180, "半年,半年卡,6个月"),
        (365, "年卡,1年,365d,year,1 year,1y,12mo,12个月,365天"),
        (730, "2年,2years,24个月,730天"),
    ):
        for cell in cells.split(","):
            assert read_validity(f" {cell} ") == days * DAY, cell


def test_permanent_has_many_names_a_number_the_unit_of_its_header_and_other_texts_are_no_durations() -> None:
    for cell in ("永久", "永久卡", "终身", "permanent", "Lifetime", "不限时"):
        assert read_validity(cell) is None
    for number, unit, seconds in (
        *(("30", "d", 30 * 86_400), ("12", "h", 12 * 3600), ("1", "month", 30 * 86_400)),
        *(("30.0", "d", 30 * 86_400), ("1", "s", 1)),
    ):
        assert read_validity(number, unit) == timedelta(seconds=seconds)
    for other in ("", "VIP", "30", "1M", "0天", "101年", "-1天", "1.5天", "1年2个月", "一个月", "2026-03-01", "天天"):
        with pytest.raises(RefusedError):
            pytest.fail(f"{other} is read as {read_validity(other)}")


def test_times_are_read_in_the_vendors_zone() -> None:
    for at, cells in (
        (MARCH, "2026-03-01|2026/3/1|2026.03.01|2026年3月1日|2026-03-01T00:00:00+08:00"),
        (MARCH.replace(hour=8), "2026-03-01T00:00:00Z"),
        (MARCH.replace(hour=9, minute=5), "2026/3/1 9:05|2026年3月1日9:05|2026-03-01T09:05"),
        (MARCH.replace(hour=9, minute=5, second=7), "2026-03-01 09:05:07|2026-03-01 09:05:07.250"),
    ):
        for cell in cells.split("|"):
            found = read_time(f" {cell} ", ZONE)
            assert found == at, cell
            assert found is not None
            assert found.tzinfo is UTC


def test_an_expiry_without_a_time_is_the_end_of_its_day_and_one_may_never_come() -> None:
    for cell in ("2026-03-01", "2026/3/1", "2026年3月1日"):
        assert read_time(cell, ZONE, at_end=True) == MARCH + DAY, cell
    assert read_time("2026-03-01 00:00", ZONE, at_end=True) == MARCH
    for cell in ("", " ", "-", "—", "无", "0", "NULL", "None", "0000-00-00 00:00:00", "1970-01-01 08:00:00"):
        assert read_time(cell, ZONE) is None, cell
    for cell in ("永不过期", "永久", "9999-12-31", "9999/12/31 23:59:59", "9999-12-31T23:59:59+08:00"):
        assert read_time(cell, ZONE, at_end=True) == NEVER, cell
    for other in (
        *("3/1/2026", "1-Mar-26", "2026-02-30", "2026-13-01", "26-03-01", "soon", "12", "46082", "2026-03-01 25:00"),
        *("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+14:00", "2026-03", "1772294400", "####"),
    ):
        with pytest.raises(RefusedError, match="2026-03-01"):
            pytest.fail(f"{other} is read as {read_time(other, ZONE)}")


@given(st.text(max_size=30), st.booleans())
def test_any_text_is_read_or_refused(cell: str, at_end: bool) -> None:  # noqa: FBT001  # hypothesis
    for read in (lambda: read_time(cell, ZONE, at_end=at_end), lambda: read_validity(cell)):
        with suppress(RefusedError):
            read()


def test_a_long_text_is_no_duration_and_costs_no_time() -> None:
    """A pattern that tries each place of a long text would hold up the whole process for minutes."""
    for text in ("卡" * 1_000_000 + "x", "会员" * 500_000, "1" + " " * 1_000_000 + "天"):
        with pytest.raises(RefusedError, match="is no duration"):
            read_validity(text)
