"""Key masking: sellers do not see the whole keys of unused cards that somebody else issued."""

from collections.abc import Iterable

from cryptography.fernet import Fernet, InvalidToken

from app.domain.cards import parse_card_id
from app.domain.operators import Role, console_actor
from app.services.sessions import Identity
from app.storage import key_masking
from app.storage.key_masking import Seller
from app.storage.paging import Cursor

# Made before gunicorn forks, so that all workers share it. After a restart, old links lead to a list's first page.
_FERNET = Fernet(Fernet.generate_key())


def seller_of(reader: Identity) -> Seller | None:
    """Return the reader as a seller from whom keys are masked; None for an owner, who reads all of them."""
    return None if reader.role is Role.OWNER else Seller(console_actor(reader.name), reader.created_at)


def masked_keys(reader: Identity, card_ids: Iterable[str | None], typed: str | None) -> frozenset[str]:
    """Return the cards whose keys are masked from the reader, by one query on an open connection.

    Args:
        reader: The operator.
        card_ids: The cards on the page.
        typed: What the reader searched for: a seller who knows a whole key sees it.
    """
    seller = seller_of(reader)
    if seller is None:
        return frozenset()
    return key_masking.masked_from(seller, {each for each in card_ids if each}) - {parse_card_id(typed or "")}


def encrypt_place(place: Cursor) -> str:
    """Write a place in a list without showing the key of the card there."""
    return _FERNET.encrypt(str(place).encode()).decode()


def decrypt_place(text: str) -> Cursor | None:
    """Read what `encrypt_place` wrote, None for any other text: a forged place would tell how near a masked key is."""
    try:
        return Cursor.parse(_FERNET.decrypt(text.encode()).decode())
    except InvalidToken:
        return None
