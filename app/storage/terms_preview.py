"""How often stricter terms would have refused, by the daily counts of accepted changes."""

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from app.domain.codes import Counted
from app.storage.models import database

MAX_COUNTS = 200_000
"""The most rows of `daily_count` that are looked at."""


class Refusals(NamedTuple):
    """How many requests of how many cards."""

    requests: int
    cards: int


class Previews(NamedTuple):
    """What terms would have refused; `is_complete` is False where there were more counts than were looked at."""

    hardware: Refusals
    both: Refusals
    changes_per_day: dict[int, Refusals]
    is_complete: bool


_COUNTED = """
WITH counted AS (
    SELECT card_id, day, kind, count FROM daily_count
    WHERE day >= %(since)s AND kind IN (%(hardware)s, %(address)s) LIMIT %(most)s
), by_day AS (
    SELECT card_id, sum(count) AS changes, coalesce(sum(count) FILTER (WHERE kind = %(hardware)s), 0) AS hardware,
        count(*) AS counts
    FROM counted GROUP BY card_id, day
)
"""
_BY_CARD = f"""{_COUNTED}
SELECT coalesce(sum(hardware), 0)::bigint, count(*) FILTER (WHERE hardware > 0), coalesce(sum(changes), 0)::bigint,
    count(*), coalesce(sum(counts), 0)::bigint
FROM (
    SELECT sum(hardware) AS hardware, sum(changes) AS changes, sum(counts) AS counts FROM by_day GROUP BY card_id
) AS by_card
"""  # noqa: S608  # constants
_BY_LIMIT = f"""{_COUNTED}
SELECT allowed, sum(refused)::bigint, count(*) FROM (
    SELECT allowed, sum(changes - allowed) AS refused
    FROM by_day JOIN unnest(%(limits)s::bigint[]) AS allowed ON changes > allowed GROUP BY allowed, card_id
) AS by_card GROUP BY allowed
"""  # noqa: S608  # constants


def preview(since: date, limits: Sequence[int]) -> Previews:
    """Return what `binding` and each of these `changes_per_day` would have refused, from two queries.

    Args:
        since: The vendor's first day that counts.
        limits: Values of the term `changes_per_day`.
    """
    values = {
        "since": since,
        "hardware": Counted.HARDWARE_CHANGED,
        "address": Counted.ADDRESS_CHANGED,
        "most": MAX_COUNTS,
        "limits": list(limits),
    }
    ((hardware, of_hardware, both, of_both, looked_at),) = database.execute_sql(_BY_CARD, values).fetchall()
    found = {limit: Refusals(*counts) for limit, *counts in database.execute_sql(_BY_LIMIT, values).fetchall()}
    return Previews(
        Refusals(hardware, of_hardware),
        Refusals(both, of_both),
        {limit: found.get(limit, Refusals(0, 0)) for limit in limits},
        looked_at < MAX_COUNTS,
    )
