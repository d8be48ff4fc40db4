"""How a card stands, as far as its customer may know it, and the customer who asks."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from app.domain.card_actions import Outcome
from app.domain.cards import Card
from app.domain.codes import CardStatus
from app.domain.self_service import Allowance, allowance, cost_of, renewal_refused, unbind
from app.domain.terms import Terms
from app.services.formatting import local
from app.services.in_force import InForce


class Customer(NamedTuple):
    """Who asks, and what their request is judged by: one version of the terms."""

    address: str
    in_force: InForce

    @property
    def terms(self) -> Terms:
        """The vendor's terms."""
        return self.in_force.terms


@dataclass(frozen=True, slots=True)
class Standing:
    """A card at the time `at`; `unbound_at` are the customer's own unbindings of the last 30 days."""

    card: Card
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
        return allowance(self.card, self.terms, self.unbound_at, self.at)

    @property
    def mark(self) -> str:
        """A text that is another one when an unbinding would leave or cost something else."""
        said = (self.card.expires_at, self.is_bound, self.allowed, self.terms.self_unbind_cost)
        return hashlib.sha256(repr(said).encode()).hexdigest()

    @property
    def cost(self) -> timedelta | None:
        """What an unbinding costs at most, None for nothing."""
        return cost_of(self.card, self.terms)

    @property
    def may_renew(self) -> bool:
        """Whether some unused card can renew it."""
        return renewal_refused(self.card, self.terms, self.at) is None

    def unbinding(self) -> Outcome:
        """Return what an unbinding would do now.

        Raises:
            app.domain.self_service.UnbindNotAllowedError: it is not allowed.
        """
        return unbind(self.card, self.terms, self.unbound_at, self.at, is_bound=self.is_bound)

    def document(self, zone: tzinfo) -> dict[str, Any]:
        """Return it as JSON."""
        allowed = self.allowed
        return {
            "status": self.status,
            "expires_at": local(self.card.expires_at, zone),
            "bound": self.is_bound,
            "unbinds_left": allowed.unbinds_left,
            "next_unbind_at": local(allowed.next_unbind_at, zone),
        }
