"""Normalizes card IDs for the names of stored files. The server also reads what is pasted around a card."""

from __future__ import annotations

import re
import unicodedata

_ID = re.compile("[0-9A-HJKMNP-TV-Z]{32}")
# ASCII only: Unicode case mapping must not change a card ID.
_READ_AS = str.maketrans("abcdefghijklmnopqrstuvwxyzILO", "ABCDEFGH1JK1MN0PQRSTUVWXYZ110")


def normalized_card_id(card_id: str) -> str:
    """Return the common form of all spellings: no white space or dashes, upper case, I and L as 1, O as 0.

    Another text may be the key of a card that was imported from another system; only white space around it is ignored.
    """
    kept = "".join(c for c in card_id if not (c.isspace() or unicodedata.category(c) == "Pd"))
    read = kept.translate(_READ_AS)
    return read if _ID.fullmatch(read) else card_id.strip()
