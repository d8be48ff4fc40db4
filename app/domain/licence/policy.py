"""The rules. No other module repeats them."""

import hashlib
from datetime import date, datetime
from enum import Enum
from typing import NamedTuple, Self

from app.domain.addresses import UNKNOWN_ADDRESS, same_address
from app.domain.cards.cards import CardFacts, card_id_of
from app.domain.codes import CardStatus, Code
from app.domain.licence.terms import BindingTerm, Terms, is_older
from app.domain.programs import MAIN

OPEN_PROGRAM = "打开程序"
"""The function that earns KERNAL_DATA_KEY: these four characters and no others."""
MAX_HARDWARE = 1024
"""Characters of the longest hardware string."""
_DEFAULTS = Terms()
_STATES_REFUSED = {
    CardStatus.SPENT: Code.CARD_SPENT,
    CardStatus.FROZEN: Code.CARD_FROZEN,
    CardStatus.EXPIRED: Code.CARD_EXPIRED,
}


class ClientFacts(NamedTuple):
    """The environment that a card is bound to, as recorded."""

    id: str
    card_id: str
    hardware: str
    address: str


class Facts(NamedTuple):
    """The facts that the rules need, read at one moment.

    `rival` is the client of *another* card of the program with the request's hardware, `rival_card` its card.
    `changes_today` is how often the card's hardware or address changed on `day_counted`, a day in the vendor's time
    zone; both are None unless a term limits the changes. `block` is the ID of the block that the request meets: then at
    most the card is read.
    """

    card: CardFacts | None = None
    client: ClientFacts | None = None
    rival: ClientFacts | None = None
    rival_card: CardFacts | None = None
    changes_today: int | None = None
    day_counted: date | None = None
    block: int | None = None


class VerificationRequest(NamedTuple):
    """A checked request to the rules.

    `card_id` is the ID of the card that `sent_card_id` names, in its one spelling. `sent_card_id`, `hardware`,
    `function` and `nonce` are exactly as sent. `address` is the one that the proxy saw, `claimed_ip` the
    one that the client believes to have. `public_key` is a checked X25519 key in base64url, which asks for sealing.
    `request_sha256` is the hex digest of the request's body, byte for byte as received. `version` is the program's;
    `needs_version` says that the term `minimum_version` applies to the request. `program` is the ID of one of the
    vendor's programs, by whose terms the request is decided.
    """

    card_id: str
    sent_card_id: str
    hardware: str
    hardware_sha256: str
    function: str
    nonce: str
    address: str
    claimed_ip: str | None
    public_key: str | None
    request_sha256: str
    version: str | None = None
    needs_version: bool = False
    program: str = MAIN

    @classmethod
    def from_fields(  # noqa: PLR0913  # the fields of the protocol
        cls,
        card_id: str,
        hardware: str,
        function: str,
        nonce: str,
        address: str,
        claimed_ip: str | None = None,
        public_key: str | None = None,
        *,
        body: bytes = b"",
        version: str | None = None,
        needs_version: bool = False,
        program: str = MAIN,
    ) -> Self:
        """Return the request of these fields, `card_id` being as sent, and `body` what they were read from."""
        digest = hashlib.sha256(hardware.encode()).hexdigest()
        asked = hashlib.sha256(body).hexdigest()
        return cls(
            card_id=card_id_of(card_id),
            sent_card_id=card_id,
            hardware=hardware,
            hardware_sha256=digest,
            function=function,
            nonce=nonce,
            address=address,
            claimed_ip=claimed_ip,
            public_key=public_key,
            request_sha256=asked,
            version=version,
            needs_version=needs_version,
            program=program,
        )


class Binding(Enum):
    """The effect of an accepted request on the card's client."""

    KEEP = "keep"
    """Update the card's client."""
    CREATE = "create"
    """Create a client: the card has none, and the machine is new."""
    MOVE = "move"
    """Move the machine's client from a card that is no longer live to this card, which has none."""


class Decision(NamedTuple):
    """The result of the rules: `card` as it is afterwards, `released` the client that another card loses."""

    code: Code
    card: CardFacts | None = None
    activates: bool = False
    binding: Binding | None = None
    released: ClientFacts | None = None
    hardware_changed: bool = False
    address_changed: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the client may continue."""
        return self.code is Code.OK

    @property
    def is_refresh(self) -> bool:
        """Whether an accepted request changes only the address within its network, the time and the function."""
        return self.binding is Binding.KEEP and not (
            self.activates or self.released or self.hardware_changed or self.address_changed
        )


def decide(facts: Facts, request: VerificationRequest, now: datetime, terms: Terms = _DEFAULTS) -> Decision:
    """Decide about a request at an aware time: the rules, in their order."""
    if facts.block is not None:
        return Decision(Code.CLIENT_BLOCKED, facts.card)
    card, client = facts.card, facts.client
    if card is None or card.program != request.program:
        return Decision(Code.CARD_NOT_FOUND, card)
    change = _Change() if client is None else _Change.between(client, request)
    refused = _STATES_REFUSED.get(card.status(now)) or _refusal(facts, request, change, now, terms)
    if refused is not None:
        return Decision(refused, card)
    without_client = Binding.CREATE if facts.rival is None else Binding.MOVE
    return Decision(
        Code.OK,
        card if card.is_activated else _activated(card, now),
        activates=not card.is_activated,
        binding=without_client if client is None else Binding.KEEP,
        released=facts.rival,
        hardware_changed=change.hardware,
        address_changed=change.recorded_address,
    )


class _Change(NamedTuple):
    """How a request differs from its card's client; `recorded_address` where that has an address on record."""

    hardware: bool = False
    address: bool = False
    recorded_address: bool = False

    @classmethod
    def between(cls, client: ClientFacts, request: VerificationRequest) -> Self:
        address = not same_address(client.address, request.address)
        return cls(client.hardware != request.hardware, address, address and client.address != UNKNOWN_ADDRESS)

    def is_mismatch(self, binding: BindingTerm) -> bool:
        match binding:
            case BindingTerm.EITHER:
                return self.hardware and self.address
            case BindingTerm.HARDWARE:
                return self.hardware
            case _:  # BOTH
                return self.hardware or self.recorded_address


def _refusal(facts: Facts, request: VerificationRequest, change: _Change, now: datetime, terms: Terms) -> Code | None:
    """Apply the rules from the fourth on to a card that is neither spent, frozen nor expired."""
    if change.is_mismatch(terms.binding):
        return Code.CLIENT_MISMATCH
    changes = change.hardware or change.recorded_address
    if changes and terms.changes_per_day is not None and (facts.changes_today or 0) >= terms.changes_per_day:
        return Code.TOO_MANY_CHANGES
    if facts.rival_card is not None and is_live(facts.rival_card, now):
        return Code.CLIENT_HAS_ANOTHER_CARD
    return Code.UPDATE_REQUIRED if is_outdated(request, terms) else None


def is_outdated(request: VerificationRequest, terms: Terms) -> bool:
    """Whether the program that asks must be updated first."""
    least = terms.minimum_version
    if least is None or not request.needs_version:
        return False
    return request.version is None or is_older(request.version, least)


def is_live(card: CardFacts, now: datetime) -> bool:
    """Whether a card keeps its machine from another card: activated, not expired, not frozen (rule 5)."""
    return card.status(now) is CardStatus.ACTIVE


def _activated(card: CardFacts, now: datetime) -> CardFacts:
    # In whole seconds, as expiries are, so that the difference is exactly the validity.
    at = now.replace(microsecond=0)
    return card._replace(activated_at=at, expires_at=None if card.validity is None else at + card.validity)
