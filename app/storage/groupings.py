"""The journal's rejections grouped, so that sharing and attacks stand out. Each function is one query."""

from datetime import datetime
from typing import Any, NamedTuple

from peewee import fn

from app.domain.codes import Code, EventKind
from app.storage.journal import what, whats
from app.storage.models import Event


class SharedCard(NamedTuple):
    """A card that other machines than its own tried, and from how many addresses they did."""

    card_id: str
    machines: int
    networks: int
    rejections: int
    first_at: datetime
    last_at: datetime


class TryingMachine(NamedTuple):
    """A machine that was refused with several cards."""

    hardware: str
    cards: int
    networks: int
    rejections: int
    first_at: datetime
    last_at: datetime


class TryingNetwork(NamedTuple):
    """An address (`app.domain.addresses.network_of`) that was refused with several cards."""

    network: str
    cards: int
    machines: int
    rejections: int
    first_at: datetime
    last_at: datetime


def shared_cards(since: datetime, limit: int) -> list[SharedCard]:
    """Return the cards that most machines tried in vain, their mismatches alone."""
    rows = _groups(Event.card_id, _MACHINE, Event.ip_network, what == Code.CLIENT_MISMATCH, since, limit)
    return [SharedCard(*row) for row in rows.tuples()]


def trying_machines(since: datetime, limit: int) -> list[TryingMachine]:
    """Return the machines that were refused with most cards, two at least."""
    groups = _groups(Event.hardware, Event.card_id, Event.ip_network, _REJECTED, since, limit)
    return [TryingMachine(*row) for row in groups.having(_distinct(Event.card_id) > 1).tuples()]


def trying_networks(since: datetime, limit: int) -> list[TryingNetwork]:
    """Return the addresses that were refused with most cards, two at least."""
    groups = _groups(Event.ip_network, Event.card_id, _MACHINE, _REJECTED, since, limit)
    return [TryingNetwork(*row) for row in groups.having(_distinct(Event.card_id) > 1).tuples()]


_REJECTED = what.in_(whats(EventKind.REJECTED))
_MACHINE = fn.hashtextextended(Event.hardware, 0)  # its text is up to 1,024 characters, and there may be a million


def _groups(key: Any, first: Any, second: Any, where: Any, since: datetime, limit: int) -> Any:  # noqa: ANN401, PLR0913  # peewee's
    count, rejections = _distinct(first), fn.COUNT(Event.id)
    return (
        Event.select(key, count, _distinct(second), rejections, fn.MIN(Event.at), fn.MAX(Event.at))
        .where(where & (Event.at >= since) & key.is_null(is_null=False))
        .group_by(key)
        .order_by(count.desc(), rejections.desc(), key)
        .limit(limit)
    )


def _distinct(column: Any) -> Any:  # noqa: ANN401  # peewee's
    return fn.COUNT(column.distinct())
