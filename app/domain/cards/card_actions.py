"""What operators do to cards. This is the only home of these rules."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from app.domain.cards.cards import MAX_VALIDITY, MIN_VALIDITY, CardFacts, ValidityError, validity_text
from app.domain.codes import CardStatus
from app.domain.texts import RefusedError, check_text


class Action(StrEnum):
    """What operators do to cards."""

    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    UNBIND = "unbind"
    EXTEND = "extend"
    SHORTEN = "shorten"
    DELETE = "delete"


SELLERS_ACTIONS = frozenset({Action.UNBIND})
"""The actions that an owner may allow a seller, on the cards that the seller issued."""
TIMED = frozenset({Action.EXTEND, Action.SHORTEN})
"""The actions that take a duration."""
_NOT_WHEN_SPENT = TIMED | {Action.DELETE}
TEXTS = ("batch", "note")
"""The vendor's own texts of a card."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an action at the time `at` does to one card. `after` is None for a deleted card."""

    at: datetime
    before: CardFacts
    after: CardFacts | None
    was_bound: bool
    is_bound: bool

    @property
    def is_changed(self) -> bool:
        """Whether the action changes anything."""
        return self.before != self.after or self.was_bound != self.is_bound

    @property
    def status_before(self) -> CardStatus:
        """The card's status before the action."""
        return self.before.status(self.at)

    @property
    def status_after(self) -> CardStatus | None:
        """The card's status after the action, None for a deleted card."""
        return None if self.after is None else self.after.status(self.at)

    @property
    def revives_unbound(self) -> bool:
        """Whether the action makes a card live that no client is bound to: it binds to the next one that asks."""
        is_revived = self.status_after is CardStatus.ACTIVE and self.status_before is not CardStatus.ACTIVE
        return is_revived and not self.is_bound


def apply(  # noqa: PLR0913  # an action, its card, and what the card's row does not say
    action: Action,
    card: CardFacts,
    now: datetime,
    *,
    is_bound: bool,
    by: timedelta | None = None,
    is_renewed: bool = False,
) -> Outcome:
    """Apply an action to a card, or refuse it. `is_renewed` says that another card was used up to renew it."""
    after: CardFacts | None
    if card.renewed_card_id is not None and action in _NOT_WHEN_SPENT:
        raise RefusedError(
            f"卡密 {card.id} 已用于给另一张卡密续费，不能再更改",
            f"card {card.id} was used up to renew another one and cannot be changed any more",
        )
    match action:
        case Action.FREEZE:
            is_beyond = card.frozen_at is not None or card.renewed_card_id is not None
            after = card if is_beyond else card._replace(frozen_at=now)
        case Action.UNFREEZE:
            after = card._replace(frozen_at=None)
        case Action.EXTEND:
            after = _extended(card, by, now)
        case Action.SHORTEN:
            after = _shortened(card, by, now)
        case Action.DELETE:
            _check_deletable(card, is_renewed=is_renewed)
            after = None
        case _:  # UNBIND
            return Outcome(now, card, card, is_bound, is_bound=False)
    return Outcome(now, card, after, is_bound, is_bound)


def possible_actions(card: CardFacts, now: datetime, *, is_bound: bool) -> list[Action]:
    """Return the actions that would change a card."""
    possible = []
    for action in Action:
        with suppress(RefusedError):
            if apply(action, card, now, is_bound=is_bound, by=timedelta(seconds=1)).is_changed:
                possible.append(action)
    return possible


def _extended(card: CardFacts, by: timedelta | None, now: datetime) -> CardFacts:
    """Return the card with `by` added: to the later of now and its expiry, or to an unused card's validity."""
    if by is None:
        raise ValueError("extending a card takes a duration")
    if card.validity is None:
        raise ValidityError(
            f"{card.id} 是永久卡，无需延期", f"{card.id} is a permanent card: there is nothing to extend"
        )
    whole_now = now.replace(microsecond=0)
    if card.expires_at is None:
        extended = card._replace(validity=card.validity + by)
        is_too_long = card.validity + by > MAX_VALIDITY
    else:
        extended = card._replace(expires_at=max(whole_now, card.expires_at) + by)
        is_too_long = max(whole_now, card.expires_at) + by - whole_now > MAX_VALIDITY
    if is_too_long:
        raise ValidityError(f"{card.id} 的有效期将超过 100 年", f"{card.id} would last longer than 100 years")
    return extended


def _shortened(card: CardFacts, by: timedelta | None, now: datetime) -> CardFacts:
    """Return the card without `by`: of its expiry, down to now at the earliest, or of an unused card's validity."""
    if by is None:
        raise ValueError("shortening a card takes a duration")
    if card.validity is None:
        raise ValidityError(
            f"{card.id} 是永久卡，不能缩短（可以冻结）",
            f"{card.id} is a permanent card and cannot be shortened (it can be frozen)",
        )
    whole_now = now.replace(microsecond=0)
    if card.expires_at is not None:
        return card._replace(expires_at=min(card.expires_at, max(whole_now, card.expires_at - by)))
    if card.validity - by < MIN_VALIDITY:
        written = validity_text(card.validity)
        raise ValidityError(
            f"{card.id} 的有效期只有 {written.zh}，须缩短得更少",
            f"{card.id} is valid for {written.en}: take less than that",
        )
    return card._replace(validity=card.validity - by)


def _check_deletable(card: CardFacts, *, is_renewed: bool) -> None:
    if card.is_activated:
        raise RefusedError(
            f"卡密 {card.id} 已激活，不能删除（可以冻结）",
            f"card {card.id} was activated and cannot be deleted (it can be frozen)",
        )
    if is_renewed:  # the other one would be spent for nothing
        raise RefusedError(
            f"卡密 {card.id} 已用另一张卡密续费，不能删除（可以冻结）",
            f"card {card.id} was renewed with another one and cannot be deleted (it can be frozen)",
        )


def check_edit(changes: Mapping[str, str | None]) -> None:
    """Refuse changes of nothing, or to an invalid text; a name that is not in `changes` stays, None clears."""
    if not changes:
        raise RefusedError("请选择要修改的内容：批次或备注", "choose what to change: the batch or the note")
    for name in TEXTS:
        check_text(name, changes.get(name))


def journalled(was: Mapping[str, str | None], changes: Mapping[str, str | None]) -> dict[str, object] | None:
    """Return what the journal has of an edit: the changed texts, and what they were; None if nothing changes."""
    changed = {name: text for name, text in changes.items() if text != was[name]}
    if not changed:
        return None
    return {**{name: text or "" for name, text in changed.items()}, "before": {name: was[name] for name in changed}}
