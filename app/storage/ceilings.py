"""The ceilings of operators and tokens, and how many cards each has issued and changed in a day."""

from datetime import date
from typing import NamedTuple

from peewee import Case, fn

from app.domain.ceilings import MAX_CHANGES_PER_DAY, Ceilings, changes_allowed
from app.domain.operators import Role
from app.storage.idempotency import Owner
from app.storage.models import ApiToken, IssueCount, Operator


class DayCount(NamedTuple):
    """How many cards an owner issued or imported in a day, and how many changes of existing ones it made."""

    cards: int
    changed: int


def of(owner: Owner) -> Ceilings:
    """Return the ceilings of an operator or a token that exists."""
    is_operator = owner.operator_id is not None
    return of_row(Operator.get_by_id(owner.operator_id) if is_operator else ApiToken.get_by_id(owner.token_id))


def changes_allowed_to(owner: Owner) -> int:
    """Return how many cards an operator or a token that exists may change in one day."""
    role = role_of(owner)
    return MAX_CHANGES_PER_DAY if role is None else changes_allowed(of(owner), role)


def role_of(owner: Owner) -> Role | None:
    """Return the role of an operator that exists; None for a token."""
    return None if owner.operator_id is None else Role(Operator.get_by_id(owner.operator_id).role)


def of_row(row: Operator | ApiToken) -> Ceilings:
    """Return the ceilings in a row, whose columns bear their names."""
    changes = row.changes_per_day if isinstance(row, Operator) else None
    return Ceilings(row.cards_per_day, row.longest_validity, changes)


def add(owner: Owner, day: date, *, issued: int = 0, changed: int = 0) -> DayCount:
    """Count cards that an owner issues or changes, in the caller's transaction; return what it is of this day.

    Until that transaction ends, others that count for the same owner wait: none is counted twice or left out.
    """
    # The clock of another host may be a moment behind at midnight: then its cards count for the new day.
    is_same_day = IssueCount.day >= day
    more = {IssueCount.cards: issued, IssueCount.changed: changed}
    (row,) = (
        IssueCount.insert(operator=owner.operator_id, token=owner.token_id, day=day, cards=issued, changed=changed)
        .on_conflict(
            conflict_constraint="issue_count_key",
            update={
                IssueCount.day: fn.GREATEST(IssueCount.day, day),
                **{column: Case(None, [(is_same_day, column + count)], count) for column, count in more.items()},
            },
        )
        .returning(IssueCount.cards, IssueCount.changed)
        .execute()
    )
    return DayCount(row.cards, row.changed)


def issued(owner: Owner, day: date) -> int:
    """Return how many cards an owner has issued in a day."""
    is_owners = (IssueCount.operator == owner.operator_id) & (IssueCount.token == owner.token_id)
    row: IssueCount | None = IssueCount.get_or_none(is_owners & (IssueCount.day == day))
    return 0 if row is None else row.cards
