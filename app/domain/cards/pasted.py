"""What people paste from customers' messages: a reference with its words, or cards amid a sentence."""

import re

from app.domain.cards.cards import (
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
_BETWEEN_KEYS = re.compile("[,;]")  # the keys of some systems have these, so a word is looked up as a whole, too
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
    """Return the words of a message or a list that may be keys of imported cards; a word alone is neither."""
    words = [word for word in _BETWEEN_WORDS.split(text) if word]
    parts = [part for word in words for part in dict.fromkeys((word, *_BETWEEN_KEYS.split(word)))]
    if len(parts) == 1:
        return []
    others = (part for part in parts if not ids_in(part))
    keys = dict.fromkeys(plain(each) for part in others for each in (part, part.rstrip(_ENDS_A_WORD)))
    return [key for key in keys if MIN_KEY_LENGTH <= len(key) <= MAX_KEY_LENGTH]


def listed_keys(text: str) -> list[str]:
    """Return the keys of a text that is a list of imported keys and nothing else; of any other text none.

    Each word has letters and digits, or each has digits alone: dates, telephone numbers and the like stand beside keys.
    """
    between = (part for word in _BETWEEN_WORDS.split(text) for part in _BETWEEN_KEYS.split(word))
    words = [word for part in between if (word := plain(part.rstrip(_ENDS_A_WORD)))]
    are_keys = all(map(str.isdecimal, words)) or all(map(_has_letters_and_digits, words))
    return words if are_keys and not ids_in(text) and min(map(len, words), default=0) >= MIN_KEY_LENGTH else []


def _has_letters_and_digits(word: str) -> bool:
    return word.isascii() and any(map(str.isalpha, word)) and any(map(str.isdecimal, word))
