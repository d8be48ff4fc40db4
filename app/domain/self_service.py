"""What customers may do with their own cards (protocol, section 3, "Self-service"). The only home of these rules."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from app.domain.card_actions import Action, Outcome, apply
from app.domain.cards import Card, ValidityError
from app.domain.codes import CardStatus
from app.domain.terms import RenewTerm, Terms
from app.domain.texts import RefusedError

CUSTOMER = "customer"
"""The actor of customers' own changes in the journal."""
WINDOW = timedelta(days=30)
"""The period in which unbindings are counted."""
_SECOND = timedelta(seconds=1)


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
    """How often a customer may unbind a card now; `next_unbind_at` is when they may again, if that is a matter of time.

    It is a whole second.
    """

    unbinds_left: int
    next_unbind_at: datetime | None = None


def allowance(card: Card, terms: Terms, unbound_at: Iterable[datetime], now: datetime) -> Allowance:
    """Return how often a customer may unbind a card.

    Args:
        card: The card.
        terms: The vendor's.
        unbound_at: When the customer unbound it; those of the last 30 days count.
        now: The time, aware.
    """
    limit = terms.self_unbind_per_30_days
    if not limit or card.status(now) in _OWN_CARD:
        return Allowance(0)
    recent = sorted((at for at in unbound_at if at > now - WINDOW), reverse=True)
    if len(recent) < limit:
        return Allowance(limit - len(recent))
    # Of more unbindings than the present limit, as many must have passed as are too many.
    return Allowance(0, _whole_second(recent[limit - 1] + WINDOW))


def cost_of(card: Card, terms: Terms) -> timedelta | None:
    """Return what an unbinding takes off a card's expiry at most; None for nothing."""
    return None if card.expires_at is None else terms.self_unbind_cost


def unbind(card: Card, terms: Terms, unbound_at: Iterable[datetime], now: datetime, *, is_bound: bool) -> Outcome:
    """Unbind a card for its customer, who pays the cost. An unbound card stays as it is.

    Args:
        card: The card as it is.
        terms: The vendor's.
        unbound_at: As for `allowance`.
        now: The time, aware.
        is_bound: Whether a client is bound to the card.

    Raises:
        UnbindNotAllowedError: the terms or the card's state do not allow it.
    """
    outcome = apply(Action.UNBIND, card, now, is_bound=is_bound)
    if not is_bound:
        return outcome
    allowed = allowance(card, terms, unbound_at, now)
    if not allowed.unbinds_left:
        raise UnbindNotAllowedError(allowed.next_unbind_at)
    cost = cost_of(card, terms)
    if cost is None:
        return outcome
    return replace(outcome, after=apply(Action.SHORTEN, card, now, is_bound=is_bound, by=cost).after)


def renew(card: Card, second: Card | None, terms: Terms, now: datetime, *, is_bound: bool) -> Outcome:
    """Add a second card's validity to a customer's card; the second card is then spent.

    Args:
        card: The card as it is.
        second: The second card, None where there is no such card.
        terms: The vendor's.
        now: The time, aware.
        is_bound: Whether a client is bound to the card.

    Raises:
        RenewNotAllowedError: says why not.
    """
    if second is None:
        raise RenewNotAllowedError(renewal_refused(card, terms, now) or RenewReason.SECOND_CARD_NOT_FOUND)
    refused = renewal_refused(card, terms, now) or _second_card_refused(card, second, terms, now)
    if refused is not None:
        raise RenewNotAllowedError(refused)
    try:
        return apply(Action.EXTEND, card, now, is_bound=is_bound, by=second.validity)
    except ValidityError as error:
        raise RenewNotAllowedError(RenewReason.TOO_LONG) from error


def renewal_refused(card: Card, terms: Terms, now: datetime) -> RenewReason | None:
    """Return why a customer may not renew a card with any other; None where they may."""
    if terms.self_renew is RenewTerm.OFF:
        return RenewReason.NOT_ALLOWED
    if card.validity is None:
        return _OWN_CARD.get(card.status(now), RenewReason.CARD_PERMANENT)
    return _OWN_CARD.get(card.status(now))


def _second_card_refused(card: Card, second: Card, terms: Terms, now: datetime) -> RenewReason | None:
    if second.id == card.id:
        return RenewReason.SAME_CARD
    if second.status(now) is CardStatus.SPENT:
        return RenewReason.SECOND_CARD_SPENT
    if second.status(now) is not CardStatus.UNUSED:
        return RenewReason.SECOND_CARD_NOT_UNUSED
    if second.validity is None:
        return RenewReason.SECOND_CARD_PERMANENT
    is_other = terms.self_renew is RenewTerm.BATCH and second.batch != card.batch
    return RenewReason.SECOND_CARD_OTHER_BATCH if is_other else None


def _whole_second(moment: datetime) -> datetime:
    """Return a moment, or the next whole second after it."""
    whole = moment.replace(microsecond=0)
    return whole if whole == moment else whole + _SECOND
