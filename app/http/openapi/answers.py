"""The bodies of answers that other modules build as plain dictionaries, declared for their schemas."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from app.domain.codes import CardStatus
from app.http.schemas import MAX_COUNT

CardId = Annotated[
    str,
    Meta(pattern=r"^[0-9A-HJKMNP-TV-Z]{32}\Z", description="The card's ID, which is the key that the customer types."),
]
Time = Annotated[datetime, Meta(tz=True)]
ValiditySeconds = Annotated[int | None, Meta(description="Null for permanent.")]


class JsonWebKey(msgspec.Struct):
    """A public key (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    use: Literal["sig"]
    alg: Literal["EdDSA"]


class KeySet(msgspec.Struct):
    """The keys: lately retired, current, next."""

    keys: Annotated[list[JsonWebKey], Meta(min_length=1)]
    endorsements: Annotated[list[str], Meta(description="For each key after the first a JWS by the key before it.")]


class IssuedCard(msgspec.Struct):
    """A new card."""

    id: CardId
    validity_seconds: ValiditySeconds
    batch: str | None
    note: str | None


class IssuedCards(msgspec.Struct):
    """The answer to an order of cards."""

    cards: Annotated[list[IssuedCard], Meta(min_length=1, max_length=MAX_COUNT)]


class ShopCard(msgspec.Struct):
    """A card as a shop sees it."""

    id: CardId
    status: CardStatus
    validity_seconds: ValiditySeconds
    activated_at: Time | None
    expires_at: Annotated[Time | None, Meta(description="Null for permanent, and before the activation.")]
    frozen: bool
    batch: str | None
    note: str | None
    created_at: Time
    bound: Annotated[bool, Meta(description="Whether a machine uses the card.")]
    last_seen_at: Time | None


class ChangedCards(msgspec.Struct):
    """The answer to an order that changes cards."""

    changed: Annotated[list[CardId], Meta(description="The cards that the order changed; the others already were so.")]
    revived_unbound: Annotated[
        list[CardId],
        Meta(
            description="Cards that are live again and whose machine has moved to another card: each binds to the next "
            "machine that asks."
        ),
    ]


class OwnCard(msgspec.Struct):
    """A card as its customer may know it."""

    status: CardStatus
    expires_at: Annotated[Time | None, Meta(description="Null for permanent, and before the activation.")]
    bound: Annotated[bool, Meta(description="Whether a machine uses the card; never which.")]
    unbinds_left: Annotated[int, Meta(ge=0, description="How often the customer may unbind the card now.")]
    next_unbind_at: Annotated[
        Time | None,
        Meta(description="When the customer may unbind it again; null where they may now, or waiting is of no use."),
    ]


class Health(msgspec.Struct):
    """The process answers."""

    status: Literal["ok"]


class Readiness(msgspec.Struct):
    """The service can answer verifications."""

    status: Literal["ready"]


class OpenApi(msgspec.Struct):
    """An OpenAPI document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
