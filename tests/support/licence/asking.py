"""Verifications without a server, and what the journal says of them."""

import jwt

from app.domain.codes import EventKind
from app.domain.licence.policy import VerificationRequest
from app.services.licence.licence import Verdict, Verification
from app.storage.models import Event
from tests.support.services.service import OPEN


def ask(
    verification: Verification,
    card_id: str,
    hardware: str = "h1",
    address: str = "198.51.100.1",
    function: str = OPEN,
) -> Verdict:
    """Verify a card."""
    return verification.verify(VerificationRequest.from_fields(card_id, hardware, function, "n" * 22, address))


def claims(verdict: Verdict) -> dict[str, object]:
    """Return what the token of a verdict says, unverified."""
    return jwt.decode(verdict.token, options={"verify_signature": False})


def kinds() -> list[str]:
    """Return the kinds of the journal's entries in their order, but those of issuing."""
    return [event.kind for event in Event.select().order_by(Event.id) if event.kind != EventKind.ISSUED]
