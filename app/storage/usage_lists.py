"""Counts of accepted requests: in long lists, and of one card."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

from peewee import JOIN, Desc, Select, Tuple, ValuesList

from app.domain.cards import ID_LENGTH
from app.storage.models import Usage, database

DAYS = 14
"""The days of a list without a day, as many as the figures count."""
_ABOVE_ALL_IDS = "Z" * (ID_LENGTH + 1)


class UsagePlace(NamedTuple):
    """A row's place in a list of usage."""

    day: date
    function: str
    card_id: str


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which counts a list has; None means any, for the day the last `DAYS`."""

    function: str | None = None
    day: date | None = None
    card_id: str | None = None


def usage_page(wanted: UsageFilter, today: date, after: UsagePlace | None = None, *, limit: int) -> list[Usage]:
    """Return up to `limit` counts, newest day first, those that follow `after`."""
    function, day = wanted.function, wanted.day
    days = [today - timedelta(days=back) for back in range(DAYS)] if day is None else [day]
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


def usage_of_card(card_id: str, since: date) -> list[Usage]:
    """Return a card's counts since that day, oldest first: by day and function."""
    of_card = Usage.select().where((Usage.card == card_id) & (Usage.day >= since))
    return list(of_card.order_by(Usage.day, Usage.function))
