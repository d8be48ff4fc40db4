"""Lists of accepted requests, counted by day, function and card."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple
from zoneinfo import ZoneInfo

from app.clock import Clock
from app.domain.cards import card_id_of
from app.domain.texts import RefusedError
from app.services.paging import PAGE_ROWS, Slice
from app.storage import usage_lists
from app.storage.database import Database
from app.storage.models import Usage
from app.storage.usage_lists import DAYS, UsageFilter, UsagePlace

USAGE_FIELDS = ("function", "day", "card")
DEFAULT_DAYS = DAYS


class DayCount(NamedTuple):
    """The number of a card's accepted requests for one function on one day."""

    day: date
    function: str
    requests: int


@dataclass(frozen=True, slots=True)
class UsageLists:
    """Reads counts of accepted requests. `zone` is the vendor's, in which days are counted."""

    database: Database
    zone: ZoneInfo
    clock: Clock

    def page(self, fields: Mapping[str, str], after: str) -> Slice[Usage]:
        """Return a page of counts, newest day first; without a day, of the last `DEFAULT_DAYS`.

        Args:
            fields: `USAGE_FIELDS`; an empty one does not filter. What clients sent, `function`, counts as typed.
            after: The place that a link names; an unreadable one asks for the first page.

        Raises:
            RefusedError: names the field and says what would be right.
            DatabaseUnavailableError: the database is away.
        """
        card, typed_day = fields["card"].strip(), fields["day"].strip()
        day = _parse_day(typed_day)
        if typed_day and day is None:
            raise RefusedError(
                f"day：“{typed_day}”不是有效的日期，请写成 2026-01-31",
                f"day: “{typed_day}” is not a date; write 2026-01-31",
            )
        wanted = UsageFilter(fields["function"] or None, day, card_id_of(card) if card else None)
        today = self.clock().astimezone(self.zone).date()
        place, limit = _parse_place(after), PAGE_ROWS + 1
        rows = self.database.with_connection(lambda: usage_lists.usage_page(wanted, today, place, limit=limit))
        return Slice(rows[:PAGE_ROWS], after=_write_place(rows[PAGE_ROWS - 1]) if len(rows) == limit else None)

    def of_card(self, card_id: str, since: date) -> list[DayCount]:
        """Return a card's counts since that day, oldest first.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        rows = self.database.with_connection(lambda: usage_lists.usage_of_card(card_id, since))
        return [DayCount(row.day, row.function, row.count) for row in rows]


def _parse_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _write_place(usage: Usage) -> str:
    return f"{usage.day.isoformat()}.{usage.card_id}.{usage.function}"


def _parse_place(text: str) -> UsagePlace | None:
    """Return the place that a link names, None for any other text."""
    day, _, rest = text.partition(".")
    card_id, dot, function = rest.partition(".")
    parsed = _parse_day(day)
    return UsagePlace(parsed, function, card_id) if parsed is not None and dot else None
