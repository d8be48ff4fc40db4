"""Long lists page by page: a page begins where another ended (keyset), so that the last is as quick as the first."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Cursor(NamedTuple):
    """A row's place in a list: the time that orders it, and its ID. `at` None is the end of time (permanent cards)."""

    at: datetime | None
    id: str

    def __str__(self) -> str:
        """Return it as it stands in an address: microseconds since 1970, a dot, the ID."""
        return f"{'' if self.at is None else (self.at - _EPOCH) // _MICROSECOND}.{self.id}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what `str` wrote; None when it is no cursor."""
        number, dot, row_id = text.partition(".")
        try:
            at = _EPOCH + int(number) * _MICROSECOND if number else None
        except (ValueError, OverflowError):
            return None
        return cls(at, row_id) if dot and row_id.isascii() and row_id.isalnum() else None
