"""Reads the cells of an imported file, and makes a card of a line's values."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from app.domain.cards import MAX_VALIDITY, parse_card_id, parse_duration, parse_validity
from app.domain.codes import CardStatus
from app.domain.texts import RefusedError, check_text
from app.storage.cards import NewCard

_DAY_SECONDS = 86_400
_EARLIEST = datetime(
    2000, 1, 1, tzinfo=UTC
)  # earlier is a typing error, and the first years overflow in other time zones
_SHOWN = 40  # characters of a wrong cell
_STATUSES = {
    **{status.value: status for status in CardStatus},
    "未使用": CardStatus.UNUSED,
    "未激活": CardStatus.UNUSED,
    "已激活": CardStatus.ACTIVE,
    "已过期": CardStatus.EXPIRED,
    "已冻结": CardStatus.FROZEN,
}
_UNMARKED = re.compile(r"'(?='*[=+\-@＝＋－＠])")  # as app.services.exports marks them


class CellError(RefusedError):
    """A cell that contradicts another cell of its line."""

    def __init__(self, column: str, zh: str, en: str) -> None:
        super().__init__(zh, en)
        self.column = column


def cut(text: str) -> str:
    """Return a cell, shortened for a message."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _id(cell: str) -> str:
    card_id = parse_card_id(cell)
    if card_id is None:
        raise RefusedError(
            f"“{cut(cell)}”不是卡密：须为 32 个字符，0–9 与 A–Z（无 I、L、O、U），可用横线分组",
            f"'{cut(cell)}' is not a card ID: 32 characters of 0-9 and A-Z without I, L, O, U, dashes allowed",
        )
    return card_id


@lru_cache
def _validity(cell: str) -> timedelta | None:
    text = cell.strip()
    if not re.fullmatch("[0-9]{1,10}", text):
        text = re.sub(
            "(天|小时|分钟|秒)$", lambda unit: {"天": "d", "小时": "h", "分钟": "m", "秒": "s"}[unit[0]], text
        )
        return parse_validity(cut(text))
    if int(text) < _DAY_SECONDS:  # people who write 30 mean days, not half a minute
        raise RefusedError(
            f"“{text}”没有单位：{text} 天请写 {text}d，{text} 秒请写 {text}s",
            f"'{text}' has no unit: write {text}d for days, {text}s for seconds",
        )
    return parse_duration(f"{text}s")


@lru_cache
def _validity_seconds(cell: str) -> timedelta | None:
    text = cell.strip()
    if not text:  # our own lists write permanent so
        return None
    if not re.fullmatch("[0-9]{1,10}", text):
        raise RefusedError(f"“{cut(text)}”不是整数秒", f"'{cut(text)}' is not a whole number of seconds")
    return parse_duration(f"{text}s")


@lru_cache
def _time(cell: str) -> datetime | None:
    text = cell.strip()
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        # Activations and expiries are whole seconds.
        at = moment.replace(microsecond=0) if moment.utcoffset() is not None else None
    except ValueError:
        at = None
    if at is None:
        example = "2026-03-01T20:00:00+08:00"
        raise RefusedError(
            f"“{cut(text)}”不是带时区的时间，请写成 {example}",
            f"'{cut(text)}' is not a time with an offset: write it as {example}",
        )
    return at


def _text(name: str) -> Callable[[str], str | None]:
    @lru_cache
    def read_text(cell: str) -> str | None:
        # Our own lists put a mark before a text that a spreadsheet would take for a formula.
        text = _UNMARKED.sub("", cell, count=1) if _UNMARKED.match(cell) else cell
        check_text(name, text or None)
        return text or None

    return read_text


def _status(cell: str) -> CardStatus | None:
    text = cell.strip()
    if text and text not in _STATUSES:
        words = "、".join(CardStatus)
        raise RefusedError(
            f"“{cut(text)}”不是状态：请写 {words}，或删去此列",
            f"'{cut(text)}' is not a status: write {', '.join(CardStatus)}, or remove the column",
        )
    return _STATUSES.get(text)


READERS: dict[str, Callable[[str], Any]] = {
    "id": _id,
    "validity": _validity,
    "validity_seconds": _validity_seconds,
    "activated_at": _time,
    "expires_at": _time,
    "batch": _text("batch"),
    "note": _text("note"),
    "status": _status,
}
"""The function that reads a cell of each column; it raises RefusedError, which says what would be right."""


def card_of(values: dict[str, Any], now: datetime) -> NewCard:
    """Return the card that a line describes.

    Raises:
        CellError: the values contradict each other.
    """
    validity = values.get("validity", values.get("validity_seconds"))
    activated_at, expires_at = values.get("activated_at"), values.get("expires_at")
    status = values.get("status")
    if activated_at is None:
        if expires_at is not None:
            raise CellError(
                "activated_at",
                "有到期时间，须有激活时间",
                "a card with an expiry was activated: the time of activation is missing",
            )
        if status in (CardStatus.ACTIVE, CardStatus.EXPIRED):  # else a used card would come back as a new one
            raise CellError(
                "activated_at",
                "已使用的卡密须有激活时间",
                "a card in use was activated: the time of activation is missing",
            )
    else:
        expires_at = _expiry(validity, activated_at, expires_at, now)
        if status is CardStatus.UNUSED:
            raise CellError("status", "有激活时间，不是未使用", "a card with a time of activation is not unused")
    frozen_at = now if status is CardStatus.FROZEN else None
    return NewCard(values["id"], validity, values.get("batch"), values.get("note"), activated_at, expires_at, frozen_at)


def _expiry(
    validity: timedelta | None, activated_at: datetime, expires_at: datetime | None, now: datetime
) -> datetime | None:
    if not _EARLIEST <= activated_at <= now:
        raise CellError(
            "activated_at", "激活时间在将来或 2000 年之前", "the activation is in the future, or before 2000"
        )
    if validity is None:
        if expires_at is not None:
            raise CellError("expires_at", "永久卡没有到期时间", "a permanent card has no expiry")
        return None
    if expires_at is None:
        expires_at = activated_at + validity
    if not activated_at < expires_at <= now + MAX_VALIDITY:
        raise CellError(
            "expires_at",
            "到期时间须晚于激活时间，且在 100 年之内",
            "the expiry must be after the activation, and within 100 years",
        )
    return expires_at
