"""What an operator's action would do to cards, told before it is done; by the rules that do it."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from app.domain.cards import Card, check_deletable, extended, revives
from app.domain.codes import CardStatus
from app.domain.texts import RefusedError, Text
from app.storage import cards as card_rows
from app.storage import models


class Action(StrEnum):
    """What operators do to cards."""

    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    UNBIND = "unbind"
    EXTEND = "extend"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """A card as it is, and as it would be: `after` None is deleted, `client` is of before."""

    card: models.Card
    client: models.Client | None
    status: CardStatus
    after: Card | None
    status_after: CardStatus | None


@dataclass(slots=True)
class Forecast:
    """The cards that would change, those that are so already, and those that cannot, each with the reason."""

    action: Action
    changes: list[Change]
    already: list[models.Card]
    refused: list[tuple[models.Card, Text]]

    @property
    def changing(self) -> list[str]:
        """The IDs of those that would change."""
        return [change.card.id for change in self.changes]

    @property
    def left_out(self) -> list[str]:
        """The IDs of those that would not."""
        return [*(card.id for card in self.already), *(card.id for card, _why in self.refused)]

    @property
    def before(self) -> Counter[str]:
        """How many of those that would change are in each state."""
        return Counter(str(change.status) for change in self.changes)

    @property
    def after(self) -> Counter[str]:
        """How many of those that would change would then be in each state."""
        return Counter(str(change.status_after) for change in self.changes if change.status_after is not None)

    @property
    def revived_unbound(self) -> int:
        """How many would be live that are not now, and have no client: they would bind to whoever asks next."""
        return sum(revives(each.status, each.status_after) and each.client is None for each in self.changes)


def forecast(
    action: Action, rows: list[tuple[models.Card, models.Client | None]], now: datetime, by: timedelta | None = None
) -> Forecast:
    """Tell what `action` would do at `now`.

    Args:
        action: The action.
        rows: The cards with their clients (None when unbound).
        now: The time, aware.
        by: How much time `extend` adds.
    """
    told = Forecast(action, [], [], [])
    for row, client in rows:
        card = card_rows.as_domain(row)
        if _is_already(action, card, client):
            told.already.append(row)
            continue
        try:
            after = _after(action, card, now, by)
        except RefusedError as error:
            told.refused.append((row, error.text))
            continue
        told.changes.append(Change(row, client, card.status(now), after, None if after is None else after.status(now)))
    return told


def _is_already(action: Action, card: Card, client: models.Client | None) -> bool:
    match action:
        case Action.FREEZE:
            return card.frozen_at is not None
        case Action.UNFREEZE:
            return card.frozen_at is None
        case Action.UNBIND:
            return client is None
        case _:
            return False


def _after(action: Action, card: Card, now: datetime, by: timedelta | None) -> Card | None:
    match action:
        case Action.FREEZE:
            return card._replace(frozen_at=now)
        case Action.UNFREEZE:
            return card._replace(frozen_at=None)
        case Action.EXTEND if by is not None:
            return extended(card, by, now)
        case Action.DELETE:
            check_deletable(card)
            return None
        case _:
            return card
