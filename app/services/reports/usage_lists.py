"""Lists of accepted requests (使用记录), counted by day, function and card."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from peewee import Desc, Tuple

from app.domain.cards.cards import card_id_of
from app.domain.texts import RefusedError
from app.services.paging import PAGE_ROWS, Slice
from app.services.reports.statistics import DAYS
from app.storage.cards import of_program
from app.storage.models import Usage

USAGE_FIELDS = ("function", "day", "card")
DEFAULT_DAYS = DAYS
"""The days of a list without a day, as many as the figures count."""
Place = tuple[date, str, str]
"""A row's place in a list of usage: its day, function and card."""


def page(fields: Mapping[str, str], after: str, today: date, program: str | None = None) -> Slice[Usage]:
    """Return a page of counts, newest day first; without a day, of the last `DEFAULT_DAYS` until `today`, the vendor's.

    Of `USAGE_FIELDS` an empty one does not filter, and `function`, which clients sent, counts as typed; a wrong one is
    refused. `program` is the cards' own, None for all. `after` is the place that a link names; an unreadable one asks
    for the first page.
    """
    card, typed_day = fields["card"].strip(), fields["day"].strip()
    day = _parse_day(typed_day)
    if typed_day and day is None:
        raise RefusedError(
            f"day：“{typed_day}”不是有效的日期，请写成 2026-01-31",
            f"day: “{typed_day}” is not a date; write 2026-01-31",
        )
    card_id, place = card_id_of(card) if card else None, _parse_place(after)
    function, limit = fields["function"] or None, PAGE_ROWS + 1
    rows = usage_page(today, function, day, card_id, after=place, limit=limit, program=program)
    last = rows[PAGE_ROWS - 1] if len(rows) > PAGE_ROWS else None
    return Slice(rows[:PAGE_ROWS], after=f"{last.day.isoformat()}.{last.card_id}.{last.function}" if last else None)


def of_card(card_id: str, since: date) -> dict[tuple[date, str], int]:
    """Return a card's counts since that day, by day and function, oldest first."""
    counts = Usage.select(Usage.day, Usage.function, Usage.count)
    rows = counts.where((Usage.card == card_id) & (Usage.day >= since)).order_by(Usage.day, Usage.function)
    return {(day, function): count for day, function, count in rows.tuples()}


def usage_page(  # noqa: PLR0913  # the filter, and the page
    today: date,
    function: str | None = None,
    day: date | None = None,
    card_id: str | None = None,
    *,
    after: Place | None = None,
    limit: int,
    program: str | None = None,
) -> list[Usage]:
    """Return up to `limit` counts, newest day first, those that follow `after`; None filters by nothing."""
    days = [today - timedelta(days=back) for back in range(DEFAULT_DAYS)] if day is None else [day]
    if function is not None and card_id is None:
        return _of_function(function, days, after, limit, of_program(Usage.card, program))
    place = (Usage.day, Usage.function, Usage.card)
    # One upper bound: of two, the planner may choose the wrong one to start at.
    where = Usage.day <= days[0]
    if after is not None and after[0] <= days[0]:
        where = Tuple(*place) < Tuple(*after)
    where &= of_program(Usage.card, program)
    if card_id is not None:
        where &= Usage.card == card_id
    if function is not None:
        where &= Usage.function == function
    return list(Usage.select().where(where & (Usage.day >= days[-1])).order_by(*map(Desc, place)).limit(limit))


def _of_function(function: str, days: list[date], after: Place | None, limit: int, where: Any) -> list[Usage]:  # noqa: ANN401  # a peewee expression
    """Read day by day: in the index, a function's rows of several days are not adjacent."""
    found: list[Usage] = []
    for day in days:
        rows = Usage.select().where((Usage.day == day) & (Usage.function == function) & where)
        if after is not None and day == after[0]:
            rows = rows.where(Usage.card < after[2])
        if after is None or day <= after[0]:
            found += list(rows.order_by(Usage.card.desc()).limit(limit - len(found)))
        if len(found) == limit:
            break
    return found


def _parse_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _parse_place(text: str) -> Place | None:
    day, _, rest = text.partition(".")
    card_id, dot, function = rest.partition(".")
    parsed = _parse_day(day)
    return (parsed, function, card_id) if parsed is not None and dot else None
