"""Durations and times as people and other systems write them."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from app.domain.cards.cards import parse_duration
from app.domain.texts import RefusedError

_SHOWN = 40  # characters of a wrong cell
_DAY_SECONDS = 86_400
PERMANENT = frozenset(
    [
        *("permanent", "lifetime", "forever", "unlimited", "never"),
        *("永久", "终身", "终生", "无限期", "不限时", "永不过期", "永久有效"),
    ]
)
"""How a validity without end is written, and an expiry that never comes."""
EMPTY = frozenset(["", "-", "--", "—", "/", "无", "空", "null", "none", "n/a", "nil", "0"])
"""How other systems write a cell without a value."""

_UNITS = {
    "s": ("s", "sec", "second", "秒"),
    "m": ("m", "min", "minute", "分", "分钟"),
    "h": ("h", "hr", "hour", "小时", "时", "个小时"),
    "d": ("d", "day", "天", "日"),
    "w": ("w", "week", "周", "星期"),
    "month": ("mo", "month", "月", "个月"),
    "quarter": ("quarter", "季", "季度"),
    "half": ("半年",),
    "year": ("y", "yr", "year", "年"),
}
_UNIT_OF = {word: unit for unit, words in _UNITS.items() for word in words}
_DAYS = {"month": 30, "quarter": 90, "half": 180, "year": 365}
_AMOUNT = re.compile(r"([0-9]{1,10})?(?:\.0+)?\s?([a-z]+|[\u4e00-\u9fff]+)")
_NUMBER = re.compile(r"([0-9]{1,10})(?:\.0+)?")


def cut(text: str) -> str:
    """Return a cell, shortened for a message."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def unit_of(word: str) -> str | None:
    """Return the unit that a word names, None for any other word."""
    return _UNIT_OF.get(word, _UNIT_OF.get(word.removesuffix("s")))


@lru_cache
def read_validity(cell: str, unit: str | None = None) -> timedelta | None:
    """Read how long a card lasts, None being permanent; `unit` is that of a bare number, if the header names it."""
    text = cell.strip()
    word = text.removesuffix("卡")
    if found := _NUMBER.fullmatch(text):
        number = found[1]
        if unit is None and int(number) < _DAY_SECONDS:  # people who write 30 mean days, not half a minute
            raise RefusedError(
                f"“{number}”没有单位：{number} 天请写 {number}d 或“{number}天”，{number} 秒请写 {number}s",
                f"'{number}' has no unit: write {number}d for days, {number}s for seconds",
            )
        return _duration(int(number), unit or "s")
    # `M` is a minute to some and a month to others; our own units are small letters.
    small = word if word.endswith("M") else word.lower()
    if small in PERMANENT:
        return None
    found = _AMOUNT.fullmatch(small)
    named = found and unit_of(found[2])
    if not found or not named:
        raise RefusedError(
            f"“{cut(text)}”不是时长，请写成 30天、月卡、1年、永久，或 30d、12h",
            f"'{cut(text)}' is no duration: write 30d, 12h, 1 year, month or permanent",
        )
    return _duration(int(found[1] or 1), named)


def _duration(amount: int, unit: str) -> timedelta:
    if unit not in _DAYS:
        return parse_duration(f"{amount}{unit}")
    years, rest = divmod(amount, 12) if unit == "month" else (0, amount)  # 12 months are a year
    return parse_duration(f"{years * _DAYS['year'] + rest * _DAYS[unit]}d")


@lru_cache
def read_seconds(cell: str) -> timedelta | None:
    """Read a validity in seconds as our own lists write it: empty is permanent."""
    text = cell.strip()
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,10}", text):
        raise RefusedError(f"“{cut(text)}”不是整数秒", f"'{cut(text)}' is not a whole number of seconds")
    return parse_duration(f"{text}s")


NEVER = datetime.max.replace(tzinfo=UTC)
"""An expiry that never comes."""
_WRITTEN = re.compile(
    r"([0-9]{4})[-/.年]([0-9]{1,2})[-/.月]([0-9]{1,2})日?"
    r"(?:[ T]*([0-9]{1,2}):([0-9]{1,2})(?::([0-9]{1,2})(?:\.[0-9]+)?)?)?"
)


@lru_cache
def read_time(cell: str, zone: ZoneInfo, *, at_end: bool = False) -> datetime | None:
    """Read a time; return it in UTC, in whole seconds, and None where the cell says none.

    A cell has a date, a date and a time, or one with an offset (ISO 8601), else in `zone`, the vendor's. An expiry is
    `at_end`: a date alone means the end of the day, and the year 9999 `NEVER`. Refuse what is no time, or whose day and
    month cannot be told apart.
    """
    text = cell.strip()
    if text.lower() in PERMANENT or (at_end and re.match(r"9999[-/.年]", text)):
        return NEVER if at_end else None
    if text.lower() in EMPTY or re.match("(0000|1970)[-/]", text):  # no time, as some databases write it
        return None
    with suppress(ValueError, OverflowError):  # a day that does not exist, or one that another zone cannot have
        if found := _WRITTEN.fullmatch(text):
            year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
            at = datetime(year, month, day, hour, minute, second, tzinfo=zone)
            at += timedelta(days=at_end and found[4] is None)
        else:
            at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC).replace(microsecond=0)
    raise RefusedError(
        f"“{cut(text)}”不是日期或时间，请写成 2026-03-01 20:00:00 或 2026-03-01",
        f"'{cut(text)}' is not a date or time: write it as 2026-03-01 20:00:00 or 2026-03-01",
    )
