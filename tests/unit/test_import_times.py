"""Durations and times as people and spreadsheets write them."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.texts import RefusedError
from app.services.import_times import Moment, read_time, read_validity
from tests.support.tables import for_each

DAY = timedelta(days=1)
ZONE = ZoneInfo("Asia/Shanghai")
MARCH = datetime(2026, 3, 1, tzinfo=ZONE)


@for_each(
    ("days", "cells"),
    [
        (1, "天卡,日卡,1天,1d,day,24h,24小时,1日,一天,1 Day"),
        (7, "周卡,1周,7天,7d,week,1w,1星期,一周卡"),
        (30, "月卡,1月,1个月,30天,30d,month,1 month,一个月,包月,月卡会员,30D,30天卡,1mo"),
        (60, "2个月,两个月,2 months,60days"),
        (90, "季卡,1季,一季度,quarter,90d,3个月,三个月"),
        (180, "半年,半年卡,6个月"),
        (365, "年卡,1年,一年,365d,year,1 year,1y,包年,12mo,12个月,365天"),
        (730, "2年,两年卡,2years,24个月,730天"),
    ],
)
def test_durations_are_read_as_people_write_them(days: int, cells: str) -> None:
    for cell in cells.split(","):
        assert read_validity(f" {cell} ") == days * DAY, cell


def test_permanent_has_many_names_and_a_number_the_unit_of_its_header() -> None:
    for cell in ("永久", "永久卡", "终身", "终身会员", "permanent", "Lifetime", "永久授权", "不限时"):
        assert read_validity(cell) is None
    numbers = {
        ("30", "d"): 30 * 86_400,
        ("12", "h"): 12 * 3600,
        ("1", "month"): 30 * 86_400,
        ("30.0", "d"): 30 * 86_400,
    }
    for (number, unit), seconds in (numbers | {("1", "s"): 1}).items():
        assert read_validity(number, unit) == timedelta(seconds=seconds)


OTHER = ["", "VIP", "30", "1M", "0天", "101年", "-1天", "1.5天", "1年2个月", "十二个月", "2026-03-01", "天天"]


@for_each("cell", OTHER)
def test_other_texts_are_no_durations(cell: str) -> None:
    with pytest.raises(RefusedError):
        read_validity(cell)


@for_each(
    ("at", "cells"),
    [
        (MARCH, "2026-03-01|2026/3/1|2026.03.01|2026年3月1日|46082|46082.0|2026-03-01T00:00:00+08:00|1772294400"),
        (MARCH, "1772294400000"),
        (MARCH.replace(hour=8), "2026-03-01T00:00:00Z"),
        (MARCH.replace(hour=12), "46082.5"),
        (MARCH.replace(hour=9, minute=5), "2026/3/1 9:05|2026年3月1日9\uff1a05"),
        (
            MARCH.replace(hour=9, minute=5, second=7),
            "2026-03-01 09:05:07|2026-03-01 09:05:07.250|2026年3月1日 9时5分7秒",
        ),
    ],
)
def test_times_are_read_in_the_vendors_zone(at: datetime, cells: str) -> None:
    for cell in cells.split("|"):
        found = read_time(f" {cell} ", ZONE)
        assert found == Moment(at), cell
        assert found.at is not None
        assert found.at.tzinfo is UTC


@for_each("cell", ["2026-03-01", "2026/3/1", "46082", "2026年3月1日"])
def test_an_expiry_without_a_time_is_the_end_of_its_day(cell: str) -> None:
    assert read_time(cell, ZONE, at_end=True).at == MARCH + DAY
    assert read_time("2026-03-01 00:00", ZONE, at_end=True).at == MARCH


def test_cells_without_a_time_and_an_expiry_that_never_comes() -> None:
    for cell in ("", " ", "-", "—", "无", "0", "NULL", "None", "0000-00-00 00:00:00", "1970-01-01 08:00:00"):
        assert read_time(cell, ZONE) == Moment(None)
    for cell in ("永不过期", "永久", "9999-12-31", "9999/12/31 23:59:59", "9999-12-31T23:59:59+08:00"):
        assert read_time(cell, ZONE, at_end=True) == Moment(None, is_never=True)


@for_each(
    "cell",
    [
        *("3/1/2026", "1-Mar-26", "2026-02-30", "2026-13-01", "26-03-01", "soon", "12", "99999", "2026-03-01 25:00"),
        *("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+14:00", "2026-03", "####"),
    ],
)
def test_other_texts_are_no_times(cell: str) -> None:
    with pytest.raises(RefusedError, match="2026-03-01"):
        read_time(cell, ZONE)


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
