"""Texts for people, in Chinese and English."""

import unicodedata
from enum import StrEnum
from typing import NamedTuple, Self

MAX_TEXT = 200
_JOINER = "\u200d"
"""Joins emoji."""


class Text(NamedTuple):
    """The same text in Chinese and in English."""

    zh: str
    en: str

    def __str__(self) -> str:
        """Return both texts, for readers whose language is not known."""
        return f"{self.zh} / {self.en}"


class NamedEnum(StrEnum):
    """Values that are stored or sent, each with what people call it: `text`."""

    text: Text

    def __new__(cls, value: str, zh: str = "", en: str = "") -> Self:
        """Make a member of its value and its two texts."""
        member = str.__new__(cls, value)
        member._value_, member.text = value, Text(zh, en)
        return member


class RefusedError(ValueError):
    """A request cannot be carried out. `text` says why, and what would be right."""

    def __init__(self, zh: str, en: str) -> None:
        self.text = Text(zh, en)
        super().__init__(str(self.text))


class LaterError(RefusedError):
    """Not now: try again in `retry_after` seconds."""

    def __init__(self, retry_after: int, zh: str, en: str) -> None:
        self.retry_after = retry_after
        super().__init__(zh, en)


def is_printable(text: str) -> bool:
    """Tell whether a text is one line without control characters; spaces of all kinds and joined emoji may be in it."""
    return all(each.isprintable() or each == _JOINER or unicodedata.category(each) == "Zs" for each in text)


def check_text(name: str, value: str | None) -> None:
    """Refuse a vendor's text that is empty, too long or not printable; None stands for no text."""
    if value is not None and (not 1 <= len(value) <= MAX_TEXT or not is_printable(value)):
        raise RefusedError(
            f"{name} 必须是 1 到 {MAX_TEXT} 个可打印字符", f"{name} must be 1 to {MAX_TEXT} printable characters"
        )
