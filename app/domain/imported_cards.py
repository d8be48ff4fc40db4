"""What the lines of an imported file say about a card together: its validity, its times, its status, its machine."""

import math
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from app.domain.cards import MAX_VALIDITY, MIN_VALIDITY
from app.domain.codes import CardStatus
from app.domain.texts import RefusedError

_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""Earlier is a typing error, and the first years overflow in other time zones."""
_NEVER_FROM = 2099
"""Other systems write the expiry of a permanent card as a day of this year or later."""


class Line(NamedTuple):
    """The values of a line; `validity` None is permanent, other values are None where the file does not say them."""

    validity: timedelta | None
    activated_at: datetime | None = None
    expires_at: datetime | None = None
    status: CardStatus | None = None
    hardware: str | None = None


class Use(NamedTuple):
    """When a card was activated, and when it expires; None and None for an unused one.

    `is_derived` when the activation follows from the expiry, or is not known at all; `begins_now` when it would be
    later than now, and is set to now.
    """

    activated_at: datetime | None = None
    expires_at: datetime | None = None
    is_derived: bool = False
    begins_now: bool = False


class Chosen(NamedTuple):
    """The validity that a vendor chooses for the unused cards of a file without one; None is permanent."""

    validity: timedelta | None


class ContradictionError(RefusedError):
    """A value contradicts another one of its line, or is missing beside it; `column` names it.

    In the texts `{expires_at}` and the like stand for columns, which people know by the file's names.
    """

    def __init__(self, column: str, zh: str, en: str) -> None:
        super().__init__(zh, en)
        self.column = column


_OF_A_USE = ("activated_at", "expires_at", "hardware")


def validity_of(line: Line, chosen: Chosen | None, now: datetime) -> timedelta | None:
    """Return the validity of a card in a file without one; None is permanent.

    A card in use has what lies between its activation and its expiry, or the whole days that are left of it.

    Args:
        line: The other values.
        chosen: What unused cards get.
        now: The time, aware.

    Raises:
        ContradictionError: nothing is chosen for an unused card, or a card in use has no expiry.
    """
    if not _said(line) and line.status not in (CardStatus.ACTIVE, CardStatus.EXPIRED):
        if chosen is None:
            raise ContradictionError(
                "validity",
                "文件没有有效期：请选择未使用卡密的有效期（命令行 --validity）",
                "the file has no validity: choose that of unused cards (command line: --validity)",
            )
        return chosen.validity
    if line.expires_at is None:
        raise ContradictionError(
            "expires_at",
            "文件没有有效期，使用中的卡密须有{expires_at}",
            "without a validity, a card in use needs {expires_at}",
        )
    if line.expires_at.year >= _NEVER_FROM:
        return None
    if line.activated_at is None:
        return min(timedelta(days=max(1, math.ceil((line.expires_at - now) / timedelta(days=1)))), MAX_VALIDITY)
    return min(max(line.expires_at - line.activated_at, MIN_VALIDITY), MAX_VALIDITY)


def _said(line: Line) -> list[str]:
    return [column for column in _OF_A_USE if getattr(line, column) is not None]


def use_of(line: Line, now: datetime) -> Use:
    """Return how a card was used.

    Args:
        line: The values; times are in UTC and in whole seconds.
        now: The time, aware.

    Raises:
        ContradictionError: the values contradict each other, or the activation of a used card cannot be known.
    """
    said = _said(line)
    if not said and line.status not in (CardStatus.ACTIVE, CardStatus.EXPIRED):
        return Use()
    if line.status is CardStatus.UNUSED:
        raise ContradictionError(
            "status", f"{{status}}是未使用，却有{{{said[0]}}}", f"{{status}} is unused, but the card has {{{said[0]}}}"
        )
    if line.activated_at is not None and not _EARLIEST <= line.activated_at <= now:
        raise ContradictionError(
            "activated_at", "{activated_at}在将来或 2000 年之前", "{activated_at} is in the future, or before 2000"
        )
    whole_now = now.replace(microsecond=0)
    return _permanent(line, whole_now) if line.validity is None else _expiring(line, line.validity, whole_now)


def _permanent(line: Line, now: datetime) -> Use:
    if line.expires_at is not None and line.expires_at.year < _NEVER_FROM:
        raise ContradictionError("expires_at", "永久卡没有{expires_at}", "a permanent card has no {expires_at}")
    if line.status is CardStatus.EXPIRED:
        raise ContradictionError("status", "永久卡不会过期", "a permanent card does not expire")
    return Use(line.activated_at or now, is_derived=line.activated_at is None)


def _expiring(line: Line, validity: timedelta, now: datetime) -> Use:
    activated_at, expires_at, begins_now = line.activated_at, line.expires_at, False
    if activated_at is None:
        if expires_at is None:  # else a used card would come back as a new one
            raise ContradictionError(
                "activated_at",
                "已使用的卡密须有{activated_at}或{expires_at}",
                "a card in use needs {activated_at} or {expires_at}",
            )
        # An extended card, or one whose expiry is the end of a day, seems to be activated later than now.
        activated_at = max(expires_at, _EARLIEST + validity) - validity
        begins_now, activated_at = activated_at > now, min(activated_at, now)
    if expires_at is None:
        expires_at = activated_at + validity
    if not activated_at < expires_at <= now + MAX_VALIDITY:
        raise ContradictionError(
            "expires_at",
            "{expires_at}须晚于{activated_at}，且在 2000 年之后、100 年之内",
            "{expires_at} must be later than {activated_at}, after 2000 and within 100 years",
        )
    if line.status is CardStatus.EXPIRED and expires_at > now:
        raise ContradictionError(
            "status", "{status}是已过期，{expires_at}却在将来", "{status} is expired, but {expires_at} is in the future"
        )
    return Use(activated_at, expires_at, is_derived=line.activated_at is None, begins_now=begins_now)
