"""Usage (使用记录): a count for each card, day and function."""

from datetime import date, datetime

from peewee import SQL

from app.storage.models import Usage

MAX_FUNCTIONS_PER_DAY = 64
OTHER_FUNCTIONS = "其他"
"""Counts a card's functions after the first `MAX_FUNCTIONS_PER_DAY`, so that clients cannot flood the table."""


def count(card_id: str, day: date, function: str, now: datetime) -> None:
    """Count one accepted request, in a transaction that has locked the card."""
    of_the_day = Usage.select().where((Usage.card == card_id) & (Usage.day == day))
    known = of_the_day.where(Usage.function == function).exists()
    crowded = not known and of_the_day.where(Usage.function != OTHER_FUNCTIONS).count() >= MAX_FUNCTIONS_PER_DAY
    (
        Usage.insert(card=card_id, day=day, function=OTHER_FUNCTIONS if crowded else function, count=1, last_at=now)
        .on_conflict(
            conflict_target=[Usage.card, Usage.day, Usage.function],
            update={Usage.count: Usage.count + SQL("1"), Usage.last_at: now},
        )
        .execute()
    )
