"""A card's ID as the server reads it, however the customer typed it (the protocol, section 2)."""

from __future__ import annotations

import unicodedata

# ASCII only: no Unicode case mapping takes part in what a card's ID is.
_READ_AS = str.maketrans("abcdefghijklmnopqrstuvwxyzILO", "ABCDEFGH1JK1MN0PQRSTUVWXYZ110")


def normalized_card_id(card_id: str) -> str:
    """The same for all spellings of one card: no white space or dashes, upper case, I and L as 1, O as 0."""
    kept = "".join(c for c in card_id if not (c.isspace() or unicodedata.category(c) == "Pd"))
    return kept.translate(_READ_AS)
