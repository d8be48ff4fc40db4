"""Rejections and accepted changes in the journal, grouped so that shared cards and attacks stand out.

Each function is one query.
"""

from datetime import date, datetime
from typing import Any, NamedTuple

from peewee import fn

from app.domain.codes import Code, Counted, EventKind
from app.domain.sharing import Spread
from app.storage.journal import MAX_ENTRIES_PER_DAY, code_or_kind, codes_or_kinds, hardware_sha256
from app.storage.models import Event, database

MAX_CANDIDATES = 1_000
"""How many cards `changing_cards` looks at: with most changes, and with most entries, of each kind."""

Group = dict[str, Any]
"""What the rejections have in common, two counts of different values, `rejections`, `first_at`, `last_at`."""

_CARDS, _NETWORKS, _MACHINES = Event.card_id, Event.ip_network, hardware_sha256


def shared_cards(since: datetime, limit: int) -> list[Group]:
    """Return the cards that most other machines tried: `card_id`, `machines`, `networks`."""
    counts = {"machines": _MACHINES, "networks": _NETWORKS}
    return list(_groups("card_id", Event.card_id, counts, code_or_kind == Code.CLIENT_MISMATCH, since).limit(limit))


def trying_machines(since: datetime, limit: int) -> list[Group]:
    """Return the machines that were rejected with most cards, two at least.

    Each is `hardware`, cut where none of its entries has the whole text, `hardware_sha256`, the `reference` of one of
    them, `cards` and `networks`.
    """
    counts = {"cards": _CARDS, "networks": _NETWORKS}
    groups = _with_several_cards(_groups("hardware_sha256", _MACHINES, counts, _REJECTED, since))
    texts = (fn.MAX(Event.hardware).alias("hardware"), fn.MAX(Event.reference).alias("reference"))
    return list(groups.select_extend(*texts).limit(limit))


def trying_networks(since: datetime, limit: int) -> list[Group]:
    """Return the addresses that were rejected with most cards, two at least: `network`, `cards`, `machines`."""
    counts = {"cards": _CARDS, "machines": _MACHINES}
    return list(_with_several_cards(_groups("network", Event.ip_network, counts, _REJECTED, since)).limit(limit))


def unbinding_cards(since: datetime, limit: int) -> list[dict[str, Any]]:
    """Return the cards that their customers unbound most often, twice at least: `card_id`, `unbindings` and times."""
    unbindings = fn.COUNT(Event.id)
    times = (fn.MIN(Event.at).alias("first_at"), fn.MAX(Event.at).alias("last_at"))
    query = (
        Event.select(Event.card_id, unbindings.alias("unbindings"), *times)
        .where((code_or_kind == EventKind.SELF_UNBOUND) & (Event.at >= since))
        .group_by(Event.card_id)
        .having(unbindings > 1)
        .order_by(unbindings.desc(), Event.card_id)
    )
    return list(query.limit(limit).dicts())


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


class ChangingCard(NamedTuple):
    """A card whose environment changed: its spread in the last part and in the whole of a period, its last change."""

    card_id: str
    lately: Spread
    whole: Spread
    last_at: datetime


def changing_cards(since: datetime, lately: datetime, first_day: date) -> list[ChangingCard]:
    """Return the cards with most accepted changes of hardware or of the address, or most entries of them, in no order.

    Many honest lines change to and fro with each request, but are in few environments, and so have few entries.

    Both sides of a change count: the environment that the card had before, and the one that it has since. Changes
    without an entry, since it would repeat one or be too many for a day, count at the time of that day's last one.

    Args:
        since: When the period begins.
        lately: When its last part begins.
        first_day: The vendor's day of `since`.
    """
    values = {
        "since": since,
        "lately": lately,
        "first_day": first_day,
        "hardware": Counted.HARDWARE_CHANGED,
        "address": Counted.ADDRESS_CHANGED,
        "changed": EventKind.ENVIRONMENT_CHANGED,
        "kept": MAX_ENTRIES_PER_DAY,
        "candidates": MAX_CANDIDATES,
    }
    size = len(Spread._fields)
    return [
        ChangingCard(card_id, Spread(*numbers[:size]), Spread(*numbers[size:]), last_at)
        for card_id, last_at, *numbers in database.execute_sql(CHANGING_CARDS, values).fetchall()
    ]


def _network(bits: int, bits_of_ipv6: int) -> str:
    return f"network(set_masklen(side.address, CASE family(side.address) WHEN 4 THEN {bits} ELSE {bits_of_ipv6} END))"


CHANGING_CARDS = f"""
WITH counted AS (
    SELECT card_id, kind, last_at, count, coalesce(cardinality(environments) / 2, least(count, %(kept)s)) AS entries
    FROM daily_count WHERE day >= %(first_day)s AND kind IN (%(hardware)s, %(address)s) AND last_at >= %(since)s
), ranked AS (
    SELECT card_id,
        row_number() OVER (PARTITION BY kind ORDER BY sum(count) DESC, card_id) AS by_changes,
        row_number() OVER (PARTITION BY kind ORDER BY sum(entries) DESC, card_id) AS by_entries
    FROM counted GROUP BY card_id, kind
), candidate AS (
    SELECT card_id, row_number() OVER () AS card
    FROM ranked WHERE least(by_changes, by_entries) <= %(candidates)s GROUP BY card_id
), entry AS (
    SELECT card, at, hashtextextended(hardware, 0) AS machine, ip::inet AS address,
        hashtextextended(details #>> '{{before,hardware}}', 0) AS machine_before,
        (details #>> '{{before,ip}}')::inet AS address_before
    FROM candidate JOIN event ON event.card_id = candidate.card_id
    WHERE coalesce(code, kind) = %(changed)s AND at >= %(since)s
), side AS (
    SELECT card, at, at >= %(lately)s AS is_late, is_after,
        side.machine, {_network(24, 48)} AS network, {_network(16, 32)} AS block
    FROM entry CROSS JOIN LATERAL (
        VALUES (false, machine_before, address_before), (true, machine, address)
    ) AS side (is_after, machine, address)
), spread AS (
    SELECT card, max(at) AS last_at,
        count(DISTINCT machine) FILTER (WHERE is_late) AS late_machines,
        count(DISTINCT network) FILTER (WHERE is_late) AS late_networks,
        count(DISTINCT block) FILTER (WHERE is_late) AS late_blocks,
        count(*) FILTER (WHERE is_late AND is_after) AS late_changes,
        count(DISTINCT (machine, network)) FILTER (WHERE is_late) AS late_places,
        count(DISTINCT machine) AS machines,
        count(DISTINCT network) AS networks,
        count(DISTINCT block) AS blocks,
        count(*) FILTER (WHERE is_after) AS changes,
        count(DISTINCT (machine, network)) AS places
    FROM side GROUP BY card
), beyond AS (
    SELECT card, max(last_at) AS last_at, sum(count - entries)::bigint AS changes,
        coalesce(sum(count - entries) FILTER (WHERE last_at >= %(lately)s), 0)::bigint AS late_changes
    FROM candidate JOIN counted USING (card_id) GROUP BY card
)
SELECT card_id, greatest(spread.last_at, beyond.last_at),
    late_machines, late_networks, late_blocks, spread.late_changes + beyond.late_changes, late_places,
    machines, networks, blocks, spread.changes + beyond.changes, places
FROM spread JOIN beyond USING (card) JOIN candidate USING (card)
"""  # noqa: S608  # constants
