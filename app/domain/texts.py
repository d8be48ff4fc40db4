"""Texts for people, in the two languages that vendors and customers read."""

from typing import NamedTuple

MAX_TEXT = 200


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


def check_text(name: str, value: str | None) -> None:
    """Refuse a vendor's own text that is empty, too long or not printable; None is none.

    Raises:
        RefusedError: names it and says what it must be.
    """
    if value is not None and (not 1 <= len(value) <= MAX_TEXT or not value.isprintable()):
        raise RefusedError(
            f"{name} 必须是 1 到 {MAX_TEXT} 个可打印字符",
            f"{name} must be 1 to {MAX_TEXT} printable characters",
        )
