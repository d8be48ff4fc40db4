"""Long lists page by page: a page of rows and the links to its neighbours."""

from collections.abc import Callable
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

from app.storage.paging import Cursor

PAGE_ROWS = 50
Row = TypeVar("Row")
Fetch = Callable[..., tuple[list[Row], Cursor | None]]
"""Takes a cursor (None: the beginning), and by name a `limit` and whether to read `backwards`.

Returns the rows in the list's order, and where the reading stopped if it did before it had looked at the whole list.
"""


class PageRequest(NamedTuple):
    """The page that a link asks for: the rows before or after a place, else the first ones."""

    before: str = ""
    after: str = ""
    size: int = PAGE_ROWS


class Slice(NamedTuple, Generic[Row]):
    """A page of a list, the places `before` and `after` it that links name, and when an unfinished reading stopped."""

    rows: list[Row]
    before: str | None = None
    after: str | None = None
    stopped_at: datetime | None = None


def read_slice(request: PageRequest, fetch: Fetch[Row], place: Callable[[Row], Cursor]) -> Slice[Row]:
    """Return the page that is asked for; an unreadable place, or one with nothing after it, asks for the first page.

    `place` returns a row's place in the list. One row more than the page has shows that the list goes on.
    """
    size, before = request.size, Cursor.parse(request.before)
    if before is not None:
        rows, _ = fetch(before, limit=size + 1, backwards=True)
        if len(rows) > size:
            rows = rows[1:]
            return Slice(rows, str(place(rows[0])), str(place(rows[-1])))
    # Back at the beginning the first page is shown whole, not only the rows that go before.
    after = Cursor.parse(request.after) if before is None else None
    rows, stopped = fetch(after, limit=size + 1)
    if after is not None and not rows and stopped is None:
        # The rows of the last page may have left the list by an action on all of them.
        after = None
        rows, stopped = fetch(None, limit=size + 1)
    shown = rows[:size]
    following = place(shown[-1]) if len(rows) > size else stopped
    return Slice(
        shown,
        before=str(place(shown[0])) if shown and after is not None else None,
        after=None if following is None else str(following),
        stopped_at=None if stopped is None else stopped.at,
    )
