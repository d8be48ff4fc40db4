"""Texts for people, in the two languages that vendors and customers read."""

from typing import NamedTuple


class Text(NamedTuple):
    """The same words in Chinese and in English."""

    zh: str
    en: str

    def __str__(self) -> str:
        """Return both, for where the reader's language is not known."""
        return f"{self.zh} / {self.en}"


class RefusedError(ValueError):
    """What was asked cannot be done. `text` says why, and what would have been right."""

    def __init__(self, zh: str, en: str) -> None:
        self.text = Text(zh, en)
        super().__init__(str(self.text))
