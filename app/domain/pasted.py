"""What people paste from customers' messages: a reference with its words, or cards amid a sentence."""

import re

from app.domain.cards import (
    MAX_KEY_LENGTH,
    MIN_KEY_LENGTH,
    REFERENCE_LENGTH,
    half_width,
    parse_card_id,
    parse_card_id_beginning,
    plain,
)

# \uff1a is the full-width colon, which a Chinese keyboard types.
_REFERENCE = re.compile(
    rf"(?:参考号|\breference\b)[\s:\uff1a]*([0-9A-Z]{{{REFERENCE_LENGTH}}})(?![0-9A-Z])", re.IGNORECASE
)
# Of punctuation only what stands between words and never in a key: white space, and the marks of Chinese sentences.
_BETWEEN_WORDS = re.compile(r"[\s\uff0c\u3002\uff1a\uff1b\u3001\uff01\uff1f\u201c\u201d\u300c\u300d\uff08\uff09]+")
_ENDS_A_WORD = ",.;!?"
_LIKE_A_CARD = re.compile(r"[0-9A-Z][0-9A-Z_-]{30,}[0-9A-Z]", re.IGNORECASE)


def reference_in(text: str) -> str | None:
    """Return the reference (参考号) that a message names, None where it names none."""
    found = _REFERENCE.search(text)
    return None if found is None else parse_card_id_beginning(found[1])


def bare_reference(text: str) -> str | None:
    """Return a text that may be a reference without words: it may as well be the beginning of a card or a note."""
    read = parse_card_id_beginning(text.strip())
    return read if read is not None and len(read) == REFERENCE_LENGTH else None


def ids_in(text: str) -> list[str]:
    """Return the card IDs amid other words, each once."""
    found = (parse_card_id(candidate) for candidate in _LIKE_A_CARD.findall(half_width(text)))
    return list(dict.fromkeys(card_id for card_id in found if card_id is not None))


def keys_in(text: str) -> list[str]:
    """Return the words of a message that may be keys of imported cards; a word alone is no message."""
    words = [word for word in _BETWEEN_WORDS.split(text) if word]
    if len(words) == 1:
        return []
    others = (word for word in words if not ids_in(word))
    keys = dict.fromkeys(plain(each) for word in others for each in (word, word.rstrip(_ENDS_A_WORD)))
    return [key for key in keys if MIN_KEY_LENGTH <= len(key) <= MAX_KEY_LENGTH]


def is_like_a_key(word: str) -> bool:
    """Whether one of `keys_in` was meant as a key, rather than as a word of the sentence: it has a digit."""
    return word[-1] not in _ENDS_A_WORD and any(map(str.isdigit, word))
