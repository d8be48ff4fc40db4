"""Key masking: sellers see the whole keys of cards that they issued, and of machines only a digest."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple

from cryptography.fernet import Fernet, InvalidToken

from app.domain.cards import answers_to, card_id_of, parse_card_id
from app.domain.operators import Role, console_actor, shop_actor
from app.domain.pasted import ids_in
from app.services.sessions import Identity
from app.storage import key_masking
from app.storage.key_masking import Issuer
from app.storage.paging import Cursor

# Made before gunicorn forks, so that all workers share them. After a restart, old links lead to a list's first page.
_FERNET = Fernet(Fernet.generate_key())
_DIGEST_KEY = secrets.token_bytes(32)  # or a guess at a machine's text could be checked by its digest
_DIGEST_LENGTH = 8


def seller_of(reader: Identity) -> Issuer | None:
    """Return the reader as a seller from whom keys are masked; None for an owner, who reads all of them."""
    return None if reader.role is Role.OWNER else Issuer(console_actor(reader.name), reader.created_at)


def shop_of(name: str) -> Issuer:
    """Return a shop as the issuer of its own cards."""
    return Issuer(shop_actor(name), datetime.min.replace(tzinfo=UTC))


class ShownKeys(NamedTuple):
    """Of the cards on a page: the keys that the reader sees, by card ID, and the cards of which they see the beginning.

    Of all other cards they see nothing. The ID of an imported card is a digest of its key: with its beginning a seller
    could check guesses at a short key. Another text than a card ID, which the journal keeps, may be a mistyped key.
    """

    keys: Mapping[str, str] = MappingProxyType({})
    abbreviated: frozenset[str] = frozenset()

    def __contains__(self, card_id: object) -> bool:
        """Whether the reader sees a card's whole key."""
        return card_id in self.keys

    def __or__(self, other: "ShownKeys") -> "ShownKeys":
        """Return what the reader sees of the cards of either."""
        return ShownKeys({**self.keys, **other.keys}, self.abbreviated | other.abbreviated)


def shown_keys(reader: Identity, card_ids: Iterable[str | None], typed: str | None = None) -> ShownKeys:
    """Return the keys that the reader sees, asking on an open connection.

    Args:
        reader: The operator.
        card_ids: The cards on the page; they need not exist.
        typed: What the reader searched for: a seller who knows a whole key sees it.
    """
    ids = frozenset(each for each in card_ids if each)
    seller = seller_of(reader)
    named = {card_id_of(text): text for text in (typed or "", *ids_in(typed or ""))}
    imported = key_masking.imported_keys(ids)
    known = {each for each in ids & named.keys() if answers_to(named[each], is_imported=each in imported)}
    shown = ids if seller is None else key_masking.issued_by(seller, ids) | known
    abbreviated = frozenset(each for each in ids - shown - frozenset(imported) if parse_card_id(each) is not None)
    return ShownKeys({card_id: imported.get(card_id, card_id) for card_id in shown}, abbreviated)


def hardware_digest(hardware: str, sha256: str | None = None) -> str:
    """Return what a seller sees of a machine: eight hexadecimal digits, the same ones until the service restarts.

    They are of the SHA-256 of the whole hardware, which an entry has in hexadecimal where it has only the beginning.
    """
    whole = sha256 or hashlib.sha256(hardware.encode()).hexdigest()
    return hmac.new(_DIGEST_KEY, whole.encode(), hashlib.sha256).hexdigest()[:_DIGEST_LENGTH]


def encrypt(place: str) -> str:
    """Write a place in a list without showing the key of the card there."""
    return _FERNET.encrypt(place.encode()).decode()


def decrypt(text: str) -> str | None:
    """Read what `encrypt` wrote, None for any other text: a forged place would tell how near a masked key is."""
    try:
        return _FERNET.decrypt(text.encode()).decode()
    except InvalidToken:
        return None


def encrypt_place(place: Cursor) -> str:
    """Write a cursor by `encrypt`."""
    return encrypt(str(place))


def decrypt_place(text: str) -> Cursor | None:
    """Read a cursor by `decrypt`."""
    place = decrypt(text)
    return None if place is None else Cursor.parse(place)
