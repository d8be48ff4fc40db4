"""The ceilings of operators and shops' tokens, enforced in the transaction that issues or changes cards."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from peewee import Case, fn

from app.domain.operators import ceilings as rules
from app.domain.operators.operators import Role
from app.runtime.clock import Clock
from app.storage.cards import NewCard, Owner
from app.storage.database import Database
from app.storage.models import Card, Ceiling, FileBatch, Operator


@dataclass(frozen=True, slots=True)
class OwnerLimits:
    """The ceilings of `owner`, as they are when they are enforced, by the days of `zone`, the vendor's."""

    owner: Owner
    zone: ZoneInfo

    def issued_today(self, now: datetime) -> int:
        """Return how many cards the owner has issued in this vendor's day."""
        row = _row(self.owner)
        return row.cards if row is not None and row.day == self._day(now) else 0

    def changes_allowed(self) -> int:
        """Return how many cards the owner may change in one day."""
        return rules.changes_allowed(ceilings_of(self.owner), _role(self.owner))

    def take(self, cards: Sequence[NewCard], now: datetime) -> None:
        """Count cards about to be issued, in the caller's transaction; roll it back on CeilingExceededError."""
        row = self._count(now, cards=len(cards))
        rules.check_count(row, row.cards - len(cards), len(cards))
        of_files = {batch for (batch,) in FileBatch.select(FileBatch.batch).distinct().tuples()}
        rules.check_batches(_role(self.owner), of_files & {card.batch for card in cards if card.batch})
        for card in cards:
            rules.check_validity(row, rules.time_left(card.validity, card.expires_at, now))

    def take_changes(self, count: int, now: datetime) -> None:
        """Count cards that are about to be changed, as `take` does those that are issued."""
        row = self._count(now, changed=count)
        rules.check_changes(rules.changes_allowed(row, _role(self.owner)), row.changed - count, count)

    def _count(self, now: datetime, *, cards: int = 0, changed: int = 0) -> Ceiling:
        """Add to the day's counts in the caller's transaction, which others of this owner wait for; return the row."""
        day = self._day(now)
        # The clock of another host may be a moment behind at midnight: then its cards count for the new day.
        is_same_day = Ceiling.day >= day
        more = {Ceiling.cards: cards, Ceiling.changed: changed}
        row: Ceiling
        (row,) = (
            Ceiling.insert(**self.owner._asdict(), day=day, cards=cards, changed=changed)
            .on_conflict(
                conflict_constraint="ceiling_key",
                update={
                    Ceiling.day: fn.GREATEST(Ceiling.day, day),
                    **{column: Case(None, [(is_same_day, column + count)], count) for column, count in more.items()},
                },
            )
            .returning(Ceiling)
            .execute()
        )
        return row

    def _day(self, now: datetime) -> date:
        return now.astimezone(self.zone).date()


@dataclass(frozen=True, slots=True)
class Acting:
    """What a service works with that changes the cards of one database in somebody's name.

    `actor` is that name in the journal. `limits` are those of the operator or the shop; the command line, which is the
    server's administrator's, has none. `issuer` keeps a seller or a shop to the cards that they issued: others do not
    exist for them. So does `program`, which keeps a shop to the cards of one program.
    """

    database: Database
    actor: str
    clock: Clock
    limits: OwnerLimits | None = None
    issuer: Owner | None = None
    program: str | None = None

    def sees(self, card: Card) -> bool:
        """Whether the card exists for who acts."""
        is_theirs = self.issuer is None or self.issuer.issued(card)
        return is_theirs and self.program in {None, card.program}

    def take_changes(self, count: int, now: datetime) -> None:
        """Count cards that are about to be changed, as `OwnerLimits.take_changes`."""
        if self.limits is not None and count:
            self.limits.take_changes(count, now)


def ceilings_of(owner: Owner) -> rules.Ceilings:
    """Return the ceilings of an operator or a token."""
    row = _row(owner)
    if row is None:
        return rules.Ceilings()
    return rules.Ceilings(row.cards_per_day, row.longest_validity, row.changes_per_day)


def set_ceilings(owner: Owner, ceilings: rules.Ceilings) -> None:
    """Set an owner's ceilings, in the caller's transaction."""
    columns = ceilings._asdict()
    insert = Ceiling.insert(**owner._asdict(), **columns)
    insert.on_conflict(conflict_constraint="ceiling_key", update=columns).execute()


def _row(owner: Owner) -> Ceiling | None:
    is_owners = (Ceiling.operator == owner.operator_id) & (Ceiling.token == owner.token_id)
    found: Ceiling | None = Ceiling.get_or_none(is_owners)
    return found


def _role(owner: Owner) -> Role | None:
    return None if owner.operator_id is None else Role(Operator.get_by_id(owner.operator_id).role)
