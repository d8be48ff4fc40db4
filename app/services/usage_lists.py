"""Lists of accepted requests (使用记录), counted by day, function and card."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from peewee import JOIN, Desc, Select, Tuple, ValuesList

from app.clock import Clock
from app.domain.cards import ID_LENGTH, card_id_of
from app.domain.texts import RefusedError
from app.services.paging import PAGE_ROWS, Slice
from app.services.statistics import DAYS
from app.storage.models import Usage, database

USAGE_FIELDS = ("function", "day", "card")
DEFAULT_DAYS = DAYS
"""The days of a list without a day, as many as the figures count."""
_ABOVE_ALL_IDS = "Z" * (ID_LENGTH + 1)


class UsagePlace(NamedTuple):
    """A row's place in a list of usage."""

    day: date
    function: str
    card_id: str


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which counts a list has; None means any, for the day the last `DEFAULT_DAYS`."""

    function: str | None = None
    day: date | None = None
    card_id: str | None = None


@dataclass(frozen=True, slots=True)
class UsageLists:
    """Reads counts of accepted requests; days are those of `zone`, the vendor's."""

    zone: ZoneInfo
    clock: Clock

    def page(self, fields: Mapping[str, str], after: str) -> Slice[Usage]:
        """Return a page of counts, newest day first; without a day, of the last `DEFAULT_DAYS`.

        Args:
            fields: `USAGE_FIELDS`; an empty one does not filter. What clients sent, `function`, counts as typed.
            after: The place that a link names; an unreadable one asks for the first page.

        Raises:
            RefusedError: names the field and says what would be right.
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
        rows = usage_page(wanted, today, place, limit=limit)
        return Slice(rows[:PAGE_ROWS], after=_write_place(rows[PAGE_ROWS - 1]) if len(rows) == limit else None)

    def of_card(self, card_id: str, since: date) -> dict[tuple[date, str], int]:
        """Return a card's counts since that day, by day and function, oldest first."""
        counts = Usage.select(Usage.day, Usage.function, Usage.count)
        of_card = counts.where((Usage.card == card_id) & (Usage.day >= since)).order_by(Usage.day, Usage.function)
        rows = list(of_card.tuples())
        return {(day, function): count for day, function, count in rows}


def usage_page(wanted: UsageFilter, today: date, after: UsagePlace | None = None, *, limit: int) -> list[Usage]:
    """Return up to `limit` counts, newest day first, those that follow `after`."""
    function, day = wanted.function, wanted.day
    days = [today - timedelta(days=back) for back in range(DEFAULT_DAYS)] if day is None else [day]
    if function is not None and wanted.card_id is None:
        return _of_function(function, days, after, limit)
    place = (Usage.day, Usage.function, Usage.card)
    # One upper bound: of two, the planner may choose the wrong one to start at.
    where = Usage.day <= days[0]
    if after is not None and after.day <= days[0]:
        where = Tuple(*place) < Tuple(*after)
    if wanted.card_id is not None:
        where &= Usage.card == wanted.card_id
    if function is not None:
        where &= Usage.function == function
    return list(Usage.select().where(where & (Usage.day >= days[-1])).order_by(*map(Desc, place)).limit(limit))


def _of_function(function: str, days: list[date], after: UsagePlace | None, limit: int) -> list[Usage]:
    """Read day by day: in the index, a function's rows of several days are not adjacent."""
    bounds = [(day, _ABOVE_ALL_IDS) for day in days if after is None or day < after.day]
    if after is not None and after.day in days:
        bounds.append((after.day, after.card_id))
    if not bounds:
        return []
    each = ValuesList(bounds, columns=("day", "bound"), alias="each")
    nearest = (
        Usage.select()
        .where((Usage.day == each.c.day) & (Usage.function == function) & (Usage.card < each.c.bound))
        .order_by(Usage.card.desc())
        .limit(limit)
        .alias("nearest")
    )
    columns = [getattr(nearest.c, field.column_name).alias(field.name) for field in Usage._meta.sorted_fields]  # noqa: SLF001  # peewee's documented way to a model's fields
    order = (Desc(nearest.c.day), Desc(nearest.c.card_id))
    query = Select((each,), columns).join(nearest, JOIN.LATERAL).order_by(*order).limit(limit)
    return [Usage(**row) for row in query.bind(database).dicts()]


def _parse_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _write_place(usage: Usage) -> str:
    return f"{usage.day.isoformat()}.{usage.card_id}.{usage.function}"


def _parse_place(text: str) -> UsagePlace | None:
    day, _, rest = text.partition(".")
    card_id, dot, function = rest.partition(".")
    parsed = _parse_day(day)
    return UsagePlace(parsed, function, card_id) if parsed is not None and dot else None
