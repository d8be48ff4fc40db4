"""Usage (使用记录): a count for each card, day and function."""

from datetime import date
from typing import Any

from peewee import SQL, Case, Insert, Select, fn

from app.storage.models import Usage

MAX_FUNCTIONS_PER_DAY = 64
OTHER_FUNCTIONS = "其他"
"""Counts a card's functions after the first `MAX_FUNCTIONS_PER_DAY`, so that clients cannot flood the table."""


def counting(cards: Any, card: Any, day: Any, function: Any, at: Any) -> Insert:  # noqa: ANN401  # peewee's expressions
    """Return the statement that counts an accepted request of each of `cards`, which the transaction has locked."""
    of_the_day = (Usage.card == card) & (Usage.day == day)
    known = Usage.select().where(of_the_day & (Usage.function == function))
    others = Usage.select(fn.COUNT(SQL("*"))).where(of_the_day & (Usage.function != OTHER_FUNCTIONS))
    is_crowded = ~fn.EXISTS(known) & (others >= MAX_FUNCTIONS_PER_DAY)
    counted_as = Case(None, [(is_crowded, OTHER_FUNCTIONS)], function)
    columns = [Usage.card, Usage.day, Usage.function, Usage.count, Usage.last_at]
    return Usage.insert_from(Select(cards, (card, day, counted_as, SQL("1"), at)), columns).on_conflict(
        conflict_target=[Usage.card, Usage.day, Usage.function],
        update={Usage.count: Usage.count + SQL("1"), Usage.last_at: at},
    )


def take_back(card_id: str, day: date, function: str) -> None:
    """Take back one counted request, whose function turned out not to exist."""
    of_the_day = (Usage.card == card_id) & (Usage.day == day)
    is_counted = Usage.select().where(of_the_day & (Usage.function == function)).exists()
    row = of_the_day & (Usage.function == (function if is_counted else OTHER_FUNCTIONS))
    # In this order: of two at once, the second waits for the first, and then deletes the row.
    if not Usage.update(count=Usage.count - 1).where(row & (Usage.count > 1)).execute():
        Usage.delete().where(row & (Usage.count == 1)).execute()
