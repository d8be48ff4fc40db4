"""Normalizes card IDs as the server does (PROTOCOL section 2)."""

from __future__ import annotations

import unicodedata

# ASCII only: Unicode case mapping must not change a card ID.
_READ_AS = str.maketrans("abcdefghijklmnopqrstuvwxyzILO", "ABCDEFGH1JK1MN0PQRSTUVWXYZ110")


def normalized_card_id(card_id: str) -> str:
    """Return the common form of all spellings: no white space or dashes, upper case, I and L as 1, O as 0."""
    kept = "".join(c for c in card_id if not (c.isspace() or unicodedata.category(c) == "Pd"))
    return kept.translate(_READ_AS)
