"""Durations and times as people and spreadsheets write them."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from app.domain.cards import parse_duration
from app.domain.texts import RefusedError

_SHOWN = 40  # characters of a wrong cell
_DAY_SECONDS = 86_400
PERMANENT = frozenset(
    [
        *("permanent", "lifetime", "forever", "unlimited", "never"),
        *("永久", "终身", "终生", "无限", "无限期", "不限", "不限时", "长期"),
        *("永不过期", "永不到期", "永久有效", "永久授权", "终身授权", "永久使用"),
    ]
)
"""How a validity without end is written, and an expiry that never comes."""
EMPTY = frozenset(["", "-", "--", "—", "/", "\\", "无", "空", "null", "none", "n/a", "nil", "0"])
"""How other systems write a cell without a value."""

_UNITS = {
    "s": ("s", "sec", "second", "秒"),
    "m": ("m", "min", "minute", "分", "分钟"),
    "h": ("h", "hr", "hour", "小时", "时", "个小时"),
    "d": ("d", "day", "天", "日"),
    "w": ("w", "week", "周", "星期", "个星期"),
    "month": ("mo", "month", "月", "个月"),
    "quarter": ("quarter", "季", "季度", "个季度"),
    "year": ("y", "yr", "year", "年"),
}
_UNIT_OF = {word: unit for unit, words in _UNITS.items() for word in words}
_DAYS = {unit: parse_duration(unit).days for unit in ("month", "quarter", "year")}
_HALF_YEAR = timedelta(days=180)
_NUMERALS = {numeral: number for number, numeral in enumerate("一二三四五六七八九十", 1)} | {"两": 2}
_AMOUNT = re.compile(r"([0-9]{1,10}(?:\.0+)?|[一二两三四五六七八九十])?\s*([a-z]+|[\u4e00-\u9fff]+)")


_LONGEST = 64
"""Characters of a duration."""


def cut(text: str) -> str:
    """Return a cell, shortened for a message."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def unit_of(word: str) -> str | None:
    """Return the unit that a word names, None for any other word."""
    return _UNIT_OF.get(word, _UNIT_OF.get(word.removesuffix("s")))


@lru_cache
def read_validity(cell: str, unit: str | None = None) -> timedelta | None:
    """Read how long a card lasts; None is permanent.

    Args:
        cell: As in the file.
        unit: Of a bare number, where the header names it.

    Raises:
        RefusedError: it is no duration.
    """
    text = cell.strip()
    word = text[:_LONGEST]
    while word.endswith(("卡", "会员")):
        word = word.removesuffix("卡").removesuffix("会员")
    word = word.removeprefix("包").strip()
    if re.fullmatch(r"[0-9]{1,10}(\.0+)?", text):
        return _number(text.partition(".")[0], unit)
    # `M` is a minute to some and a month to others; our own units are small letters.
    small = word if word.endswith("M") else word.lower()
    if small in PERMANENT:
        return None
    if word == "半年":
        return _HALF_YEAR
    found = _AMOUNT.fullmatch(small)
    named = found and unit_of(found[2])
    if len(text) > _LONGEST or not found or not named:
        raise RefusedError(
            f"“{cut(text)}”不是时长，请写成 30天、月卡、1年、永久，或 30d、12h",
            f"'{cut(text)}' is no duration: write 30d, 12h, 1 year, month or permanent",
        )
    amount = _NUMERALS.get(found[1]) or int(float(found[1])) if found[1] else 1
    return _amount(amount, named)


def _amount(amount: int, unit: str) -> timedelta:
    if unit not in _DAYS:
        return parse_duration(f"{amount}{unit}")
    years, rest = divmod(amount, 12) if unit == "month" else (0, amount)  # 12 months are a year
    return parse_duration(f"{years * _DAYS['year'] + rest * _DAYS[unit]}d")


def _number(number: str, unit: str | None) -> timedelta:
    if unit is not None:
        return _amount(int(number), unit)
    if int(number) < _DAY_SECONDS:  # people who write 30 mean days, not half a minute
        raise RefusedError(
            f"“{number}”没有单位：{number} 天请写 {number}d 或“{number}天”，{number} 秒请写 {number}s",
            f"'{number}' has no unit: write {number}d for days, {number}s for seconds",
        )
    return parse_duration(f"{number}s")


@lru_cache
def read_seconds(cell: str) -> timedelta | None:
    """Read a validity in seconds as our own lists write it: empty is permanent.

    Raises:
        RefusedError: it is no number of seconds.
    """
    text = cell.strip()
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,10}", text):
        raise RefusedError(f"“{cut(text)}”不是整数秒", f"'{cut(text)}' is not a whole number of seconds")
    return parse_duration(f"{text}s")


class Moment(NamedTuple):
    """A time in UTC, in whole seconds; `is_never` is an expiry that never comes."""

    at: datetime | None
    is_never: bool = False


_SERIAL_DAYS = range(36_526, 73_051)
"""Spreadsheets count days from 1899-12-30: these are from 2000 to 2099."""
_SERIAL_EPOCH = datetime(1899, 12, 30)  # noqa: DTZ001  # made aware where it is read
_WRITTEN = re.compile(
    r"([0-9]{4})[-/.年]([0-9]{1,2})[-/.月]([0-9]{1,2})日?"
    r"(?:[ T]*([0-9]{1,2})[:\uff1a时点]([0-9]{1,2})分?(?:[:\uff1a]?([0-9]{1,2})秒?)?(?:\.[0-9]+)?)?"
)


@lru_cache
def read_time(cell: str, zone: ZoneInfo, *, at_end: bool = False) -> Moment:
    """Read a time.

    Args:
        cell: As in the file: with an offset, without one, a date, a spreadsheet's serial number, or a Unix time.
        zone: The vendor's, for a time without an offset.
        at_end: Whether it is an expiry: a date alone means the end of the day, and the year 9999 never.

    Raises:
        RefusedError: it is no time, or its day and month cannot be told apart.
    """
    text = cell.strip()
    if text.lower() in PERMANENT or (at_end and re.match(r"9999[-/.年]", text)):
        return Moment(None, is_never=True)
    if text.lower() in EMPTY or re.match("(0000|1970)[-/]", text):  # no time, as some databases write it
        return Moment(None)
    try:
        found = _offset(text) or _serial(text, zone, at_end=at_end) or _written(text, zone, at_end=at_end)
        if found is not None:
            return Moment(found.astimezone(UTC).replace(microsecond=0))
    except (ValueError, OverflowError):
        pass  # a day that does not exist, or one that another zone cannot have
    raise RefusedError(
        f"“{cut(text)}”不是日期或时间，请写成 2026-03-01 20:00:00 或 2026-03-01",
        f"'{cut(text)}' is not a date or time: write it as 2026-03-01 20:00:00 or 2026-03-01",
    )


def _offset(text: str) -> datetime | None:
    if not re.match("[0-9]{4}-", text):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.utcoffset() is not None else None


def _serial(text: str, zone: ZoneInfo, *, at_end: bool) -> datetime | None:
    if re.fullmatch("[0-9]{10}|[0-9]{13}", text):
        return datetime.fromtimestamp(int(text[:10]), UTC)
    if not re.fullmatch(r"[0-9]{5}(\.[0-9]+)?", text) or int(text[:5]) not in _SERIAL_DAYS:
        return None
    is_date = float(text).is_integer()
    days = timedelta(seconds=round(float(text) * _DAY_SECONDS))
    return (_SERIAL_EPOCH + days + timedelta(days=is_date and at_end)).replace(tzinfo=zone)


def _written(text: str, zone: ZoneInfo, *, at_end: bool) -> datetime | None:
    found = _WRITTEN.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
    date = datetime(year, month, day, tzinfo=zone)
    if found[4] is None:
        return date + timedelta(days=at_end)
    return date.replace(hour=hour, minute=minute, second=second)
