"""The abuse report: shared cards, and machines and addresses that try many cards."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from app.domain import sharing
from app.domain.sharing import DAY, WEEK
from app.services.formatting import local
from app.storage import abuse_report
from app.storage.abuse_report import ChangingCard
from app.storage.database import Database

WITHIN = timedelta(days=7)
LATELY = timedelta(days=1)
MAX_ROWS = 50
LIMITS = {"last_24_hours": DAY._asdict(), "period": WEEK._asdict()}
"""The thresholds of `accepted`. Those of the period are for 7 days, whatever its length."""


def collect(database: Database, now: datetime, zone: ZoneInfo, within: timedelta = WITHIN) -> dict[str, Any]:
    """Return the report of a period as JSON has it, from five queries, each group with up to `MAX_ROWS`, worst first.

    Times are in ISO 8601 in the zone:
      accepted: {count, first: […]} cards whose accepted requests reach a threshold (`app.domain.sharing`):
        {card_id, last_24_hours, period, last_at}, both {machines, networks, blocks, changes, places}
      cards: [{card_id, machines, networks, rejections, first_at, last_at}] mismatches of one card
      machines: [{hardware, hardware_sha256, reference, cards, networks, rejections, first_at, last_at}] rejections of
        one machine with many cards; `reference` is of one of them
      networks: [{network, cards, machines, rejections, first_at, last_at}] those of one address with many cards
      unbindings: [{card_id, unbindings, first_at, last_at}] cards that their customers unbound most often by themselves

    Args:
        database: Connected without a limit on a statement's time.
        now: The time, aware.
        zone: The vendor's, in which changes are counted by days.
        within: The length of the period, a day at least.
    """
    return database.with_connection(lambda: _collect(now, zone, within))


def shown_cards(database: Database, now: datetime, zone: ZoneInfo) -> list[ChangingCard]:
    """Return all cards that `accepted` counts in the usual period, worst first."""
    return database.with_connection(lambda: _shown_cards(now, zone, WITHIN))


def _collect(now: datetime, zone: ZoneInfo, within: timedelta) -> dict[str, Any]:
    since = now - within
    groups = {
        "cards": abuse_report.shared_cards(since, MAX_ROWS),
        "machines": abuse_report.trying_machines(since, MAX_ROWS),
        "networks": abuse_report.trying_networks(since, MAX_ROWS),
        "unbindings": abuse_report.unbinding_cards(since, MAX_ROWS),
    }
    shown = _shown_cards(now, zone, within)
    return {
        "accepted": {"count": len(shown), "first": [_row(card, zone) for card in shown[:MAX_ROWS]]},
        **{
            name: [
                {**row, "first_at": local(row["first_at"], zone), "last_at": local(row["last_at"], zone)}
                for row in rows
            ]
            for name, rows in groups.items()
        },
    }


def _shown_cards(now: datetime, zone: ZoneInfo, within: timedelta) -> list[ChangingCard]:
    since = now - within
    found = abuse_report.changing_cards(since, now - LATELY, since.astimezone(zone).date())
    return sorted((card for card in found if sharing.excess(card.lately, card.whole) >= 1), key=_order)


def _order(card: ChangingCard) -> tuple[float, int, str]:
    return -sharing.excess(card.lately, card.whole), -card.whole.changes, card.card_id


def _row(card: ChangingCard, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "card_id": card.card_id,
        "last_24_hours": card.lately._asdict(),
        "period": card.whole._asdict(),
        "last_at": local(card.last_at, zone),
    }
