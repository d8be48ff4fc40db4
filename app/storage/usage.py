"""Usage (使用记录): a count for each card, day and function."""

from datetime import date

from app.storage.models import Usage

MAX_FUNCTIONS_PER_DAY = 64
OTHER_FUNCTIONS = "其他"
"""Counts a card's functions after the first `MAX_FUNCTIONS_PER_DAY`, so that clients cannot flood the table."""


def take_back(card_id: str, day: date, function: str) -> None:
    """Take back one counted request, whose function turned out not to exist."""
    of_the_day = (Usage.card == card_id) & (Usage.day == day)
    is_counted = Usage.select().where(of_the_day & (Usage.function == function)).exists()
    row = of_the_day & (Usage.function == (function if is_counted else OTHER_FUNCTIONS))
    # In this order: of two at once, the second waits for the first, and then deletes the row.
    if not Usage.update(count=Usage.count - 1).where(row & (Usage.count > 1)).execute():
        Usage.delete().where(row & (Usage.count == 1)).execute()
