"""The abuse report: shared cards, and machines and addresses that try many cards, each group by one query."""

from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from app.domain import sharing
from app.domain.codes import Change, Code, EventKind
from app.domain.sharing import DAY, WEEK, Spread
from app.services.formatting import local
from app.storage.journal import MAX_ENTRIES_PER_DAY, codes_or_kinds
from app.storage.models import database

WITHIN = timedelta(days=7)
LATELY = timedelta(days=1)
MAX_ROWS = 50
MAX_CANDIDATES = 1_000
"""How many cards `changing_cards` looks at: with most changes, and with most entries, of each kind."""
LIMITS = {"last_24_hours": DAY._asdict(), "period": WEEK._asdict()}
"""The thresholds of `accepted`. Those of the period are for 7 days, whatever its length."""
_OF_PROGRAM = "(%(program)s::text IS NULL OR card_id IN (SELECT id FROM card WHERE program = %(program)s))"
_ENTRIES = f"""
WITH entry AS (
    SELECT *, coalesce(details ->> 'hardware_sha256', encode(sha256(convert_to(hardware, 'UTF8')), 'hex')) AS machine
    FROM event WHERE coalesce(code, kind) = ANY (%(codes)s) AND at >= %(since)s AND {_OF_PROGRAM}
)
"""  # noqa: S608  # constants
_GROUPS = {
    "cards": """
SELECT card_id, count(DISTINCT machine) AS machines, count(DISTINCT ip_network) AS networks,
    count(*) AS rejections, min(at) AS first_at, max(at) AS last_at
FROM entry WHERE card_id IS NOT NULL GROUP BY 1 ORDER BY machines DESC, rejections DESC, 1 LIMIT %(limit)s""",
    "machines": """
SELECT machine AS hardware_sha256, max(hardware) AS hardware, max(reference) AS reference,
    count(DISTINCT card_id) AS cards, count(DISTINCT ip_network) AS networks,
    count(*) AS rejections, min(at) AS first_at, max(at) AS last_at
FROM entry WHERE machine IS NOT NULL GROUP BY 1 HAVING count(DISTINCT card_id) > 1
ORDER BY cards DESC, rejections DESC, 1 LIMIT %(limit)s""",
    "networks": """
SELECT ip_network AS network, count(DISTINCT card_id) AS cards, count(DISTINCT machine) AS machines,
    count(*) AS rejections, min(at) AS first_at, max(at) AS last_at
FROM entry WHERE ip_network IS NOT NULL GROUP BY 1 HAVING count(DISTINCT card_id) > 1
ORDER BY cards DESC, rejections DESC, 1 LIMIT %(limit)s""",
    "unbindings": """
SELECT card_id, count(*) AS unbindings, min(at) AS first_at, max(at) AS last_at
FROM entry GROUP BY 1 HAVING count(*) > 1 ORDER BY unbindings DESC, 1 LIMIT %(limit)s""",
}
_CODES: dict[str, EventKind | Code] = {"cards": Code.CLIENT_MISMATCH, "unbindings": EventKind.SELF_UNBOUND}
"""What a group's entries are; those of the others are all rejections."""


class ChangingCard(NamedTuple):
    """A card whose environment changed: its spread in the last part and in the whole of a period, its last change."""

    card_id: str
    lately: Spread
    whole: Spread
    last_at: datetime


def collect(now: datetime, zone: ZoneInfo, within: timedelta = WITHIN, program: str | None = None) -> dict[str, Any]:
    """Return the report of a period as JSON has it, from five queries, each group with up to `MAX_ROWS`, worst first.

    It is of a program's cards, None for all. Times are in ISO 8601 in the zone:
      accepted: {count, first: […]} cards whose accepted requests reach a threshold (`app.domain.sharing`):
        {card_id, last_24_hours, period, last_at}, both {machines, networks, blocks, changes, places}
      cards: [{card_id, machines, networks, rejections, first_at, last_at}] mismatches of one card
      machines: [{hardware, hardware_sha256, reference, cards, networks, rejections, first_at, last_at}] rejections of
        one machine with many cards; `reference` is of one of them
      networks: [{network, cards, machines, rejections, first_at, last_at}] those of one address with many cards
      unbindings: [{card_id, unbindings, first_at, last_at}] cards that their customers unbound most often by themselves

    Changes are counted by the days of `zone`, the vendor's; the period, `within`, is a day at least.
    """
    shown = shown_cards(now, zone, within, program)
    first = [
        {
            "card_id": card.card_id,
            "last_24_hours": card.lately._asdict(),
            "period": card.whole._asdict(),
            "last_at": local(card.last_at, zone),
        }
        for card in shown[:MAX_ROWS]
    ]
    report: dict[str, Any] = {"accepted": {"count": len(shown), "first": first}}
    for name in _GROUPS:
        rows = group(name, now - within, program=program)
        times = ("first_at", "last_at")
        report[name] = [{**row, **{time: local(row[time], zone) for time in times}} for row in rows]
    return report


def group(name: str, since: datetime, limit: int = MAX_ROWS, program: str | None = None) -> list[dict[str, Any]]:
    """Return one of the report's groups but `accepted`, with times as they are."""
    codes = codes_or_kinds(_CODES.get(name, EventKind.REJECTED))
    values = {"codes": codes, "since": since, "limit": limit, "program": program}
    cursor = database.execute_sql(_ENTRIES + _GROUPS[name], values)
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def shown_cards(
    now: datetime, zone: ZoneInfo, within: timedelta = WITHIN, program: str | None = None
) -> list[ChangingCard]:
    """Return all cards that `accepted` counts, worst first."""
    since = now - within
    found = [
        (-sharing.excess(card.lately, card.whole), -card.whole.changes, card)
        for card in changing_cards(since, now - LATELY, since.astimezone(zone).date(), program)
    ]
    return [card for excess, _changes, card in sorted(found) if excess <= -1]


def changing_cards(
    since: datetime, lately: datetime, first_day: date, program: str | None = None
) -> list[ChangingCard]:
    """Return the cards with most accepted changes of hardware or of the address, or most entries of them, in no order.

    Many honest lines change to and fro with each request, but are in few environments, and so have few entries.

    Both sides of a change count: the environment that the card had before, and the one that it has since. Changes
    without an entry, since it would repeat one or be too many for a day, count at the time of that day's last one.

    The period begins at `since`, on the vendor's day `first_day`, and its last part at `lately`.
    """
    values = {
        "since": since,
        "lately": lately,
        "first_day": first_day,
        "hardware": Change.HARDWARE_CHANGED,
        "address": Change.ADDRESS_CHANGED,
        "changed": EventKind.ENVIRONMENT_CHANGED,
        "kept": MAX_ENTRIES_PER_DAY,
        "candidates": MAX_CANDIDATES,
        "program": program,
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
        AND {_OF_PROGRAM}
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
