"""What operators do to cards (protocol, section 2, "What operators do"). Over several cards: all or nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain import cards
from app.domain.cards import extended, parse_card_id, revives
from app.domain.codes import EventKind
from app.domain.texts import RefusedError
from app.storage import bindings, journal, models
from app.storage import cards as card_rows
from app.storage.database import Database


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What an action did: the cards it changed, and those it revived whose machine has moved on."""

    changed: tuple[str, ...]
    revived_unbound: tuple[str, ...] = ()


class CardNotFoundError(RefusedError):
    """No such card."""

    def __init__(self, card_id: str) -> None:
        super().__init__(f"卡密 {card_id} 不存在", f"there is no card {card_id}")


class CardActions:
    """The operators' actions on one database.

    Args:
        database: Where the cards are.
        actor: Who acts, as the journal names them.
        clock: Returns the time now, aware.
    """

    def __init__(self, database: Database, actor: str, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._actor = actor
        self._clock = clock

    def freeze(self, card_ids: list[str]) -> ActionResult:
        """Freeze cards: they are refused until unfrozen, and their time goes on."""

        def change(row: models.Card, now: datetime) -> bool:
            if row.frozen_at is not None:
                return False
            models.Card.update(frozen_at=now).where(models.Card.id == row.id).execute()
            return True

        return self._act(card_ids, EventKind.FROZEN, change)

    def unfreeze(self, card_ids: list[str]) -> ActionResult:
        """Unfreeze cards."""

        def change(row: models.Card, _now: datetime) -> bool:
            if row.frozen_at is None:
                return False
            models.Card.update(frozen_at=None).where(models.Card.id == row.id).execute()
            return True

        return self._act(card_ids, EventKind.UNFROZEN, change)

    def unbind(self, card_ids: list[str]) -> ActionResult:
        """Forget the cards' clients: each binds to whoever asks next."""

        def change(row: models.Card, _now: datetime) -> bool:
            return bool(models.Client.delete().where(models.Client.card == row.id).execute())

        return self._act(card_ids, EventKind.UNBOUND, change)

    def extend(self, card_ids: list[str], by: timedelta) -> ActionResult:
        """Add time to cards.

        Raises:
            RefusedError: one is permanent, or would last longer than 100 years.
        """

        def change(row: models.Card, now: datetime) -> bool:
            after = extended(card_rows.as_domain(row), by, now)
            (
                models.Card.update(validity=after.validity, expires_at=after.expires_at)
                .where(models.Card.id == row.id)
                .execute()
            )
            return True

        return self._act(card_ids, EventKind.EXTENDED, change, {"by": cards.format_validity(by)})

    def delete(self, card_ids: list[str]) -> ActionResult:
        """Delete cards that were never activated.

        Raises:
            RefusedError: one was activated.
        """

        def change(row: models.Card, _now: datetime) -> bool:
            cards.check_deletable(card_rows.as_domain(row))
            models.Card.delete().where(models.Card.id == row.id).execute()
            return True

        return self._act(card_ids, EventKind.DELETED, change)

    def _act(
        self,
        card_ids: list[str],
        kind: EventKind,
        change: Callable[[models.Card, datetime], bool],
        details: dict[str, object] | None = None,
    ) -> ActionResult:
        """Change each card under its lock, with its journal entry, all in one transaction."""
        wanted = list(dict.fromkeys(canonical(card_id) for card_id in card_ids))

        def write() -> ActionResult:
            with self._database.atomic():
                rows = {row.id: row for row in bindings.lock_cards(wanted)}
                # Read after the lock was got: whoever held it may have acted a moment ago.
                now = self._clock()
                for card_id in wanted:
                    if card_id not in rows:
                        raise CardNotFoundError(card_id)
                changed = [card_id for card_id in wanted if change(rows[card_id], now)]
                journal.append([self._entry(kind, now, card_id, details) for card_id in changed])
                return ActionResult(tuple(changed), tuple(_revived_unbound(rows, changed, now)))

        return self._database.with_connection(write, once=True)

    def _entry(
        self, kind: EventKind, now: datetime, card_id: str | None, details: dict[str, object] | None
    ) -> journal.Entry:
        return journal.Entry(at=now, kind=kind, card_id=card_id, actor=self._actor, details=details)


def _revived_unbound(before: dict[str, models.Card], changed: list[str], now: datetime) -> list[str]:
    """Return the changed cards that were not live, are so now, and have no client."""
    after = {row.id: row for row in models.Card.select().where(models.Card.id.in_(changed))}
    revived = [
        card_id
        for card_id, row in after.items()
        if revives(card_rows.as_domain(before[card_id]).status(now), card_rows.as_domain(row).status(now))
    ]
    bound = card_rows.bound_cards(revived)
    return [card_id for card_id in revived if card_id not in bound]


def canonical(text: str) -> str:
    """Return the ID of a card as a person may have typed it.

    Raises:
        CardNotFoundError: it is no card's ID.
    """
    card_id = parse_card_id(text)
    if card_id is None:
        raise CardNotFoundError(ascii(text)[1:-1])
    return card_id
