"""What customers may do with their own cards (docs/console.md#self-service). The only home of these rules."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from app.domain.cards.card_actions import Action, Outcome, apply
from app.domain.cards.cards import CardFacts, ValidityError
from app.domain.codes import CardStatus
from app.domain.licence.terms import RenewTerm, Terms
from app.domain.texts import RefusedError

CUSTOMER = "customer"
"""The actor of customers' own changes in the journal."""
WINDOW = timedelta(days=30)
"""The period in which unbindings are counted."""


class RenewReason(StrEnum):
    """Why a renewal is refused: the `reason` of RENEW_NOT_ALLOWED."""

    NOT_ALLOWED = "not_allowed"
    SAME_CARD = "same_card"
    CARD_SPENT = "card_spent"
    CARD_FROZEN = "card_frozen"
    CARD_PERMANENT = "card_permanent"
    SECOND_CARD_NOT_FOUND = "second_card_not_found"
    SECOND_CARD_SPENT = "second_card_spent"
    SECOND_CARD_NOT_UNUSED = "second_card_not_unused"
    SECOND_CARD_PERMANENT = "second_card_permanent"
    SECOND_CARD_OTHER_BATCH = "second_card_other_batch"
    TOO_LONG = "too_long"


_OWN_CARD = {CardStatus.SPENT: RenewReason.CARD_SPENT, CardStatus.FROZEN: RenewReason.CARD_FROZEN}


class UnbindNotAllowedError(RefusedError):
    """A customer may not unbind a card now; `next_unbind_at` is when they may, None for not by themselves."""

    def __init__(self, next_unbind_at: datetime | None) -> None:
        self.next_unbind_at = next_unbind_at
        super().__init__("卡密现在不能自助解绑", "customers may not unbind the card now")


class RenewNotAllowedError(RefusedError):
    """A customer may not renew a card with that other card; `reason` says why."""

    def __init__(self, reason: RenewReason) -> None:
        self.reason = reason
        super().__init__(f"卡密不能续费：{reason}", f"the card cannot be renewed: {reason}")


class Allowance(NamedTuple):
    """How often a customer may unbind a card now, and at which whole second again, if that is a matter of time."""

    unbinds_left: int
    next_unbind_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CustomersCard:
    """How a customer's card stands at the time `at`; `unbound_at` are the customer's own unbindings of 30 days."""

    card: CardFacts
    at: datetime
    is_bound: bool
    unbound_at: tuple[datetime, ...]
    terms: Terms

    @property
    def status(self) -> CardStatus:
        """The card's status."""
        return self.card.status(self.at)

    @property
    def allowed(self) -> Allowance:
        """How often the customer may unbind the card."""
        limit = self.terms.self_unbind_per_30_days
        if not limit or self.status in _OWN_CARD:
            return Allowance(0)
        recent = sorted((at for at in self.unbound_at if at > self.at - WINDOW), reverse=True)
        if len(recent) < limit:
            return Allowance(limit - len(recent))
        # Of more unbindings than the present limit, as many must have passed as are too many.
        free_at = recent[limit - 1] + WINDOW
        whole = free_at.replace(microsecond=0)
        return Allowance(0, whole if whole == free_at else whole + timedelta(seconds=1))

    @property
    def cost(self) -> timedelta | None:
        """What an unbinding takes off the card's expiry at most, None for nothing."""
        return None if self.card.expires_at is None else self.terms.self_unbind_cost

    @property
    def mark(self) -> str:
        """A text that is another one when an unbinding would leave or cost something else."""
        said = (self.card.expires_at, self.is_bound, self.allowed, self.terms.self_unbind_cost)
        return hashlib.sha256(repr(said).encode()).hexdigest()

    @property
    def may_renew(self) -> bool:
        """Whether some unused card can renew it."""
        return self._renewal_refused() is None

    def unbinding(self) -> Outcome:
        """Return what an unbinding does now, with its cost, or raise UnbindNotAllowedError."""
        outcome = apply(Action.UNBIND, self.card, self.at, is_bound=self.is_bound)
        if not self.is_bound:
            return outcome
        allowed = self.allowed
        if not allowed.unbinds_left:
            raise UnbindNotAllowedError(allowed.next_unbind_at)
        if self.cost is None:
            return outcome
        shortened = apply(Action.SHORTEN, self.card, self.at, is_bound=self.is_bound, by=self.cost)
        return replace(outcome, after=shortened.after)

    def renewal(self, second: CardFacts | None) -> Outcome:
        """Return what a second card, None if there is none, does to this one, or raise RenewNotAllowedError."""
        refused = self._renewal_refused()
        if second is None:
            raise RenewNotAllowedError(refused or RenewReason.SECOND_CARD_NOT_FOUND)
        refused = refused or self._second_card_refused(second)
        if refused is not None:
            raise RenewNotAllowedError(refused)
        try:
            return apply(Action.EXTEND, self.card, self.at, is_bound=self.is_bound, by=second.validity)
        except ValidityError as error:
            raise RenewNotAllowedError(RenewReason.TOO_LONG) from error

    def _renewal_refused(self) -> RenewReason | None:
        """Return why the customer may not renew the card with any other; None where they may."""
        if self.terms.self_renew is RenewTerm.OFF:
            return RenewReason.NOT_ALLOWED
        if self.card.validity is None:
            return _OWN_CARD.get(self.status, RenewReason.CARD_PERMANENT)
        return _OWN_CARD.get(self.status)

    def _second_card_refused(self, second: CardFacts) -> RenewReason | None:
        if second.id == self.card.id:
            return RenewReason.SAME_CARD
        if second.program != self.card.program:
            return RenewReason.SECOND_CARD_NOT_FOUND
        if second.status(self.at) is CardStatus.SPENT:
            return RenewReason.SECOND_CARD_SPENT
        if second.status(self.at) is not CardStatus.UNUSED:
            return RenewReason.SECOND_CARD_NOT_UNUSED
        if second.validity is None:
            return RenewReason.SECOND_CARD_PERMANENT
        is_other = self.terms.self_renew is RenewTerm.BATCH and second.batch != self.card.batch
        return RenewReason.SECOND_CARD_OTHER_BATCH if is_other else None
