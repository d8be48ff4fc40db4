"""Long lists in a browser: a page of rows, and the ways on and back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.console.forms import Form
from app.storage.paging import Cursor

PAGE_ROWS = 50
Row = TypeVar("Row")
Fetch = Callable[[Cursor | None, bool, int], list[Row]]
"""From a cursor (None: the beginning), whether backwards, and a limit, to rows in the list's order."""


@dataclass(frozen=True)  # with slots `Slice[Row](…)` would fail: typing notes the parameter in the instance
class Slice(Generic[Row]):
    """A page's rows; `before` and `after` are what the links to its neighbours carry, None where there is none."""

    rows: list[Row]
    before: str | None = None
    after: str | None = None


def slice_of(  # noqa: PLR0913  # the last two are for one list each
    query: Form,
    fetch: Fetch[Row],
    place: Callable[[Row], Cursor | str],
    size: int = PAGE_ROWS,
    read: Callable[[str], Cursor | None] = Cursor.parse,
    is_over: Callable[[], bool] = lambda: True,
) -> Slice[Row]:
    """Read the page that `?after=` or `?before=` asks for; what is no cursor asks for the first page.

    So does a place with nothing after it: the last page's rows may have gone from the list by an action on all of them.

    Args:
        query: The request's.
        fetch: Reads rows: one more than a page has tells whether the list goes on.
        place: Tells a row's place in the list, as it is or as it is to be written.
        size: How many rows a page has.
        read: Reads a place; None when a text is none.
        is_over: Whether there was nothing more where `fetch` has just found nothing.
    """
    before = read(query.one("before"))
    if before is not None:
        rows = fetch(before, True, size + 1)  # noqa: FBT003  # the type says what it is
        if len(rows) > size:
            rows = rows[1:]
            return Slice(rows, str(place(rows[0])), str(place(rows[-1])))
    # Back at the beginning the first page is shown whole, not only the rows that go before.
    after = read(query.one("after")) if before is None else None
    rows = fetch(after, False, size + 1)  # noqa: FBT003  # as above
    if after is not None and not rows and is_over():
        after, rows = None, fetch(None, False, size + 1)  # noqa: FBT003  # as above
    shown = rows[:size]
    return Slice(
        shown,
        str(place(shown[0])) if shown and after is not None else None,
        str(place(shown[-1])) if len(rows) > size else None,
    )
