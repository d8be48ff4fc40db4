"""The rules as they were before there were terms: the oracle for terms that nobody has changed."""

from datetime import datetime

from app.domain.addresses import UNKNOWN_ADDRESS, same_address
from app.domain.cards import Card
from app.domain.codes import CardStatus, Code
from app.domain.policy import Binding, Decision, Facts, VerificationRequest


def decide(facts: Facts, request: VerificationRequest, now: datetime) -> Decision:
    """Decide about a request as release 1.0.0 did."""
    card, client = facts.card, facts.client
    if card is None:
        return Decision(Code.CARD_NOT_FOUND)
    status = card.status(now)
    if status is CardStatus.FROZEN:
        return Decision(Code.CARD_FROZEN, card)
    if status is CardStatus.EXPIRED:
        return Decision(Code.CARD_EXPIRED, card)
    hardware_changed = client is not None and client.hardware != request.hardware
    address_changed = client is not None and not same_address(client.address, request.address)
    if hardware_changed and address_changed:
        return Decision(Code.CLIENT_MISMATCH, card)
    released = facts.rival
    if facts.rival_card is not None and facts.rival_card.status(now) is CardStatus.ACTIVE:
        return Decision(Code.CLIENT_HAS_ANOTHER_CARD, card)
    without_client = Binding.CREATE if released is None else Binding.MOVE
    return Decision(
        Code.OK,
        card if card.is_activated else _activated(card, now),
        activates=not card.is_activated,
        binding=without_client if client is None else Binding.KEEP,
        released=released,
        hardware_changed=hardware_changed,
        address_changed=address_changed and client is not None and client.address != UNKNOWN_ADDRESS,
    )


def _activated(card: Card, now: datetime) -> Card:
    at = now.replace(microsecond=0)
    return card._replace(activated_at=at, expires_at=None if card.validity is None else at + card.validity)
