"""The journal's rejections, grouped so that shared cards and attacks stand out. Each function is one query."""

from datetime import datetime
from typing import Any

from peewee import fn

from app.domain.codes import Code, EventKind
from app.storage.journal import code_or_kind, codes_or_kinds
from app.storage.models import Event

Group = dict[str, Any]
"""What the rejections have in common, two counts of different values, `rejections`, `first_at`, `last_at`."""

# Of hardware only a hash is compared: there may be a million texts of 1,024 characters.
_CARDS, _NETWORKS, _MACHINES = Event.card_id, Event.ip_network, fn.hashtextextended(Event.hardware, 0)


def shared_cards(since: datetime, limit: int) -> list[Group]:
    """Return the cards that most other machines tried: `card_id`, `machines`, `networks`."""
    counts = {"machines": _MACHINES, "networks": _NETWORKS}
    return list(_groups("card_id", Event.card_id, counts, code_or_kind == Code.CLIENT_MISMATCH, since).limit(limit))


def trying_machines(since: datetime, limit: int) -> list[Group]:
    """Return the machines that were rejected with most cards, two at least: `hardware`, `cards`, `networks`."""
    counts = {"cards": _CARDS, "networks": _NETWORKS}
    return list(_with_several_cards(_groups("hardware", Event.hardware, counts, _REJECTED, since)).limit(limit))


def trying_networks(since: datetime, limit: int) -> list[Group]:
    """Return the addresses that were rejected with most cards, two at least: `network`, `cards`, `machines`."""
    counts = {"cards": _CARDS, "machines": _MACHINES}
    return list(_with_several_cards(_groups("network", Event.ip_network, counts, _REJECTED, since)).limit(limit))


_REJECTED = code_or_kind.in_(codes_or_kinds(EventKind.REJECTED))


def _groups(name: str, key: Any, counts: dict[str, Any], where: Any, since: datetime) -> Any:  # noqa: ANN401  # peewee's
    """Return the query for the groups, those with the largest first count first."""
    first, second = (_distinct(column).alias(count) for count, column in counts.items())
    rejections = fn.COUNT(Event.id)
    times = (fn.MIN(Event.at).alias("first_at"), fn.MAX(Event.at).alias("last_at"))
    return (
        Event.select(key.alias(name), first, second, rejections.alias("rejections"), *times)
        .where(where & (Event.at >= since) & key.is_null(is_null=False))
        .group_by(key)
        .order_by(first.unalias().desc(), rejections.desc(), key)
        .dicts()
    )


def _with_several_cards(groups: Any) -> Any:  # noqa: ANN401  # peewee's
    return groups.having(_distinct(Event.card_id) > 1)


def _distinct(column: Any) -> Any:  # noqa: ANN401  # peewee's
    return fn.COUNT(column.distinct())
