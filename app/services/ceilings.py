"""Enforces the ceilings of one operator or shop's token, in the transaction that issues or changes cards."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from app.domain.ceilings import Ceilings, check_batches, check_changes, check_count, check_validity, time_left
from app.storage import ceilings as rows
from app.storage import files
from app.storage.cards import NewCard
from app.storage.database import Database
from app.storage.idempotency import Owner


@dataclass(frozen=True, slots=True)
class Limits:
    """The ceilings of `owner`, whose day is that of `zone`, the vendor's.

    Ceilings are read where they are enforced: a change holds for the next issue or extension.
    """

    database: Database
    owner: Owner
    zone: ZoneInfo

    def ceilings(self) -> Ceilings:
        """Return the ceilings."""
        return self.database.with_connection(lambda: rows.of(self.owner))

    def issued_today(self, now: datetime) -> int:
        """Return how many cards the owner has issued in this vendor's day."""
        return self.database.with_connection(lambda: rows.issued(self.owner, self._day(now)))

    def take(self, cards: Sequence[NewCard], now: datetime) -> None:
        """Count cards that are about to be issued or imported, within the caller's transaction.

        Raises:
            app.domain.ceilings.CeilingExceededError: a ceiling does not allow them; roll the transaction back.
        """
        total = rows.add(self.owner, self._day(now), issued=len(cards))
        ceilings = rows.of(self.owner)
        check_count(ceilings, total.cards - len(cards), len(cards))
        check_batches(rows.role_of(self.owner), files.batches() & {card.batch for card in cards if card.batch})
        for card in cards:
            check_validity(ceilings, time_left(card.validity, card.expires_at, now))

    def take_changes(self, count: int, now: datetime) -> None:
        """Count cards that are about to be changed, within the caller's transaction.

        Raises:
            app.domain.ceilings.CeilingExceededError: too many for one day; roll the transaction back.
        """
        total = rows.add(self.owner, self._day(now), changed=count)
        check_changes(rows.changes_allowed_to(self.owner), total.changed - count, count)

    def changes_allowed(self) -> int:
        """Return how many cards the owner may change in one day."""
        return self.database.with_connection(lambda: rows.changes_allowed_to(self.owner))

    def _day(self, now: datetime) -> date:
        return now.astimezone(self.zone).date()
