"""Key masking: sellers do not see the whole keys of unused cards that somebody else issued."""

from collections.abc import Iterable

from cryptography.fernet import Fernet, InvalidToken

from app.console.visitor import Visitor
from app.domain.cards import parse_card_id
from app.storage import key_masking
from app.storage.key_masking import Seller
from app.storage.paging import Cursor

# Made before gunicorn forks: all workers have the same. After a restart a list begins with its first page.
_FERNET = Fernet(Fernet.generate_key())


def seller_of(visitor: Visitor) -> Seller | None:
    """Return the visitor as somebody from whom keys are secret; None for an owner, who reads all."""
    return None if visitor.is_owner else Seller(visitor.actor, visitor.who.created_at)


def hidden_from(visitor: Visitor, card_ids: Iterable[str | None], typed: str) -> frozenset[str]:
    """Return the cards whose keys are to be masked, in one query; for an owner none, without one.

    Args:
        visitor: Who looks, logged in.
        card_ids: The cards that the page shows.
        typed: What the visitor searched for: whoever knows the whole key is shown it.
    """
    seller = seller_of(visitor)
    if seller is None:
        return frozenset()
    return key_masking.secret_from(seller, {each for each in card_ids if each}) - {parse_card_id(typed)}


def seal(place: Cursor) -> str:
    """Write a place in a list so that the card there cannot be read from it."""
    return _FERNET.encrypt(str(place).encode()).decode()


def unseal(text: str) -> Cursor | None:
    """Read what `seal` wrote; None when it is nothing of ours. One made up could tell how far a hidden key is."""
    try:
        return Cursor.parse(_FERNET.decrypt(text.encode()).decode())
    except InvalidToken:
        return None
