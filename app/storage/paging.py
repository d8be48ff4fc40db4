"""Keyset paging: a page begins where another ended, so that each page costs the same."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Cursor(NamedTuple):
    """A row's place in a list: the time that orders it, None for permanent cards, which come last, and its ID."""

    at: datetime | None
    id: str

    def __str__(self) -> str:
        """Return the form for URLs: microseconds since 1970, a dot, the ID."""
        return f"{'' if self.at is None else (self.at - _EPOCH) // _MICROSECOND}.{self.id}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what `str` wrote, None for any other text."""
        number, dot, row_id = text.partition(".")
        try:
            at = _EPOCH + int(number) * _MICROSECOND if number else None
        except (ValueError, OverflowError):
            return None
        return cls(at, row_id) if dot and row_id.isascii() and row_id.isalnum() else None
