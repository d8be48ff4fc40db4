"""What the lines of an imported file say about a card together: its validity, its times, its status, its machine."""

import math
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from app.domain.cards.cards import MAX_VALIDITY, MIN_VALIDITY
from app.domain.codes import CardStatus
from app.domain.texts import RefusedError

_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""Earlier is a typing error, and the first years overflow in other time zones."""
_NEVER_FROM = 2099
"""Other systems write the expiry of a permanent card as a day of this year or later."""


Use = tuple[datetime | None, datetime | None]
"""When a card was activated, and when it expires; None and None for an unused one."""


class Line(NamedTuple):
    """The values of a line; `validity` None is permanent, other values are None where the file does not say them."""

    validity: timedelta | None
    activated_at: datetime | None = None
    expires_at: datetime | None = None
    status: CardStatus | None = None
    hardware: str | None = None


class Chosen(NamedTuple):
    """The validity that a vendor chooses for the unused cards of a file without one; None is permanent."""

    validity: timedelta | None


class ContradictionError(RefusedError):
    """A value contradicts another one of its line, or is missing beside it; `column` is which of our columns it is."""

    def __init__(self, column: str, zh: str, en: str) -> None:
        super().__init__(zh, en)
        self.column = column


def validity_of(line: Line, chosen: Chosen | None, now: datetime) -> timedelta | None:
    """Return the validity of a card in a file without one, None being permanent, or raise ContradictionError.

    An unused card gets what is chosen. A card in use has what lies between its activation and its expiry, or the whole
    days that are left of it.
    """
    if not _is_used(line):
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
            "文件没有有效期，使用中的卡密须有到期时间",
            "without a validity, a card in use needs its expiry",
        )
    if line.expires_at.year >= _NEVER_FROM:
        return None
    if line.activated_at is None:
        return min(timedelta(days=max(1, math.ceil((line.expires_at - now) / timedelta(days=1)))), MAX_VALIDITY)
    return min(max(line.expires_at - line.activated_at, MIN_VALIDITY), MAX_VALIDITY)


def _is_used(line: Line) -> bool:
    says = (line.activated_at, line.expires_at, line.hardware)
    return says != (None, None, None) or line.status in (CardStatus.ACTIVE, CardStatus.EXPIRED)


def use_of(line: Line, now: datetime) -> Use:
    """Return how a card was used, by UTC times in whole seconds; ContradictionError for values that do not fit."""
    if not _is_used(line):
        return None, None
    if line.status is CardStatus.UNUSED:
        raise ContradictionError(
            "status",
            "状态是未使用，却有激活时间、到期时间或机器码",
            "the status is unused, but the card has an activation, an expiry or a machine",
        )
    if line.activated_at is not None and not _EARLIEST <= line.activated_at <= now:
        raise ContradictionError(
            "activated_at", "激活时间在将来或 2000 年之前", "the activation is in the future, or before 2000"
        )
    whole_now = now.replace(microsecond=0)
    if line.validity is not None:
        return _expiring(line, line.validity, whole_now)
    if line.expires_at is not None and line.expires_at.year < _NEVER_FROM:
        raise ContradictionError("expires_at", "永久卡没有到期时间", "a permanent card has no expiry")
    if line.status is CardStatus.EXPIRED:
        raise ContradictionError("status", "永久卡不会过期", "a permanent card does not expire")
    return line.activated_at or whole_now, None


def _expiring(line: Line, validity: timedelta, now: datetime) -> Use:
    activated_at, expires_at = line.activated_at, line.expires_at
    if activated_at is None:
        if expires_at is None:  # else a used card would come back as a new one
            raise ContradictionError(
                "activated_at", "已使用的卡密须有激活时间或到期时间", "a card in use needs its activation or its expiry"
            )
        # An extended card, or one whose expiry is the end of a day, seems to be activated later than now.
        activated_at = min(max(expires_at, _EARLIEST + validity) - validity, now)
    if expires_at is None:
        expires_at = activated_at + validity
    if not activated_at < expires_at <= now + MAX_VALIDITY:
        raise ContradictionError(
            "expires_at",
            "到期时间须晚于激活时间，且在 2000 年之后、100 年之内",
            "the expiry must be later than the activation, after 2000 and within 100 years",
        )
    if line.status is CardStatus.EXPIRED and expires_at > now:
        raise ContradictionError(
            "status", "状态是已过期，到期时间却在将来", "the status is expired, but the expiry is in the future"
        )
    return activated_at, expires_at
