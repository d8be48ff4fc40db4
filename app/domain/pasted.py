"""What people paste from customers' messages: a reference with its words, or a card amid a sentence."""

import re

from app.domain.cards import (
    MAX_KEY_LENGTH,
    MIN_KEY_LENGTH,
    REFERENCE_LENGTH,
    parse_card_id,
    parse_card_id_beginning,
)

# \uff1a is the full-width colon, which a Chinese keyboard types.
_REFERENCE = re.compile(
    rf"(?:参考号|\breference\b)[\s:\uff1a]*([0-9A-Z]{{{REFERENCE_LENGTH}}})(?![0-9A-Z])", re.IGNORECASE
)
# Of punctuation only what stands between words and never in a key: white space, and the marks of Chinese sentences.
_BETWEEN_WORDS = re.compile(r"[\s\uff0c\u3002\uff1a\uff1b\u3001\uff01\uff1f\u201c\u201d\u300c\u300d\uff08\uff09]+")
_MOST_WORDS = 50
_LIKE_A_CARD = re.compile(r"[0-9A-Z][0-9A-Z-]{30,}[0-9A-Z]", re.IGNORECASE)


def reference_in(text: str) -> str | None:
    """Return the reference (参考号) that a message names, None where it names none."""
    found = _REFERENCE.search(text)
    return None if found is None else parse_card_id_beginning(found[1])


def bare_reference(text: str) -> str | None:
    """Return a text that may be a reference without words: it may as well be the beginning of a card or a note."""
    read = parse_card_id_beginning(text.strip())
    return read if read is not None and len(read) == REFERENCE_LENGTH else None


def card_in(text: str) -> str | None:
    """Return the first card ID amid other words, None where there is none, or nothing else."""
    if parse_card_id(text) is not None:
        return None
    found = (parse_card_id(candidate) for candidate in _LIKE_A_CARD.findall(text))
    return next((card_id for card_id in found if card_id is not None), None)


def keys_in(text: str) -> list[str]:
    """Return up to `_MOST_WORDS` words of a message that may be keys of imported cards; a word alone is no message."""
    words = [word for word in _BETWEEN_WORDS.split(text) if word]
    if len(words) == 1:
        return []
    return [word for word in words if MIN_KEY_LENGTH <= len(word) <= MAX_KEY_LENGTH][:_MOST_WORDS]
