"""The ceilings of operators and tokens, and how many cards each has issued in a day."""

from datetime import date

from peewee import Case, fn

from app.domain.ceilings import Ceilings
from app.storage.idempotency import Owner
from app.storage.models import ApiToken, IssueCount, Operator


def of(owner: Owner) -> Ceilings:
    """Return the ceilings of an operator or a token that exists."""
    is_operator = owner.operator_id is not None
    return of_row(Operator.get_by_id(owner.operator_id) if is_operator else ApiToken.get_by_id(owner.token_id))


def of_row(row: Operator | ApiToken) -> Ceilings:
    """Return the ceilings in a row, whose columns bear their names."""
    return Ceilings(row.cards_per_day, row.longest_validity)


def add(owner: Owner, day: date, cards: int) -> int:
    """Count cards that an owner issues, in the caller's transaction; return how many it is of this day.

    Until that transaction ends, others that count for the same owner wait: none is counted twice or left out.
    """
    # The clock of another host may be a moment behind at midnight: then its cards count for the new day.
    is_same_day = IssueCount.day >= day
    (row,) = (
        IssueCount.insert(operator=owner.operator_id, token=owner.token_id, day=day, cards=cards)
        .on_conflict(
            conflict_constraint="issue_count_key",
            update={
                IssueCount.day: fn.GREATEST(IssueCount.day, day),
                IssueCount.cards: Case(None, [(is_same_day, IssueCount.cards + cards)], cards),
            },
        )
        .returning(IssueCount.cards)
        .execute()
    )
    total: int = row.cards
    return total


def issued(owner: Owner, day: date) -> int:
    """Return how many cards an owner has issued in a day."""
    is_owners = (IssueCount.operator == owner.operator_id) & (IssueCount.token == owner.token_id)
    row: IssueCount | None = IssueCount.get_or_none(is_owners & (IssueCount.day == day))
    return 0 if row is None else row.cards
