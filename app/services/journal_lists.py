"""Lists of the journal: filtered, page by page or whole."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from app.domain.operators import Role, console_actor
from app.domain.texts import Text
from app.services.paging import PageRequest, Slice, read_slice
from app.services.sessions import Identity
from app.storage import journal, journal_lists
from app.storage.database import Database
from app.storage.journal_lists import JournalFilter
from app.storage.models import Event
from app.storage.paging import Cursor

MAX_LOOKED = journal_lists.MAX_LOOKED
MAX_REFUSALS_PER_MINUTE = journal.MAX_REFUSALS_PER_MINUTE
MAX_ENTRIES_PER_DAY = journal.MAX_ENTRIES_PER_DAY
NO_SUCH_REFERENCE = Text(
    f"日志中没有这个参考号：请求已被接受，同一地址的拒绝一分钟超过 {MAX_REFUSALS_PER_MINUTE} 条，"
    f"同一卡密的同类拒绝一天超过 {MAX_ENTRIES_PER_DAY} 条（卡密的页面与 card show 有次数），或已过期清理",
    "The journal has no such reference: the request was accepted, or its address had more than "
    f"{MAX_REFUSALS_PER_MINUTE} refusals in a minute, or its card more than {MAX_ENTRIES_PER_DAY} of the kind in a day "
    "(the card's page and card show count them), or the entry was pruned",
)
_PAGE_ROWS = 1_000
_NAMING_CARDS = ("moved_to", "with", "renewed")
"""The details that are cards."""


@dataclass(frozen=True, slots=True)
class JournalLists:
    """Reads the journal. Each method raises DatabaseUnavailableError while the database is away."""

    database: Database

    def page(self, wanted: JournalFilter, request: PageRequest, reader: Identity) -> Slice[Event]:
        """Return a page of a list; a seller's names a card or a reference, or has what the seller did."""
        if reader.role is not Role.OWNER and wanted.card_id is None and wanted.reference is None:
            # Entries of their name may be older than they are: of a former operator.
            since = max(wanted.since or reader.created_at, reader.created_at)
            wanted = replace(wanted, actor=console_actor(reader.name), since=since)

        def fetch(after: Cursor | None, backwards: bool, limit: int) -> journal_lists.Page:  # noqa: FBT001  # a Fetch
            return journal_lists.page(wanted, after, limit=limit, backwards=backwards)

        return self.database.with_connection(lambda: read_slice(request, fetch, journal_lists.cursor))

    def newest(self, wanted: JournalFilter, limit: int) -> list[Event]:
        """Return the newest entries, newest first; of a filter by several texts perhaps not all."""
        return self.database.with_connection(lambda: journal_lists.page(wanted, limit=limit)).rows

    def every(self, wanted: JournalFilter) -> Iterator[Event]:
        """Yield the whole list, read page by page."""
        after: Cursor | None = None

        def read() -> journal_lists.Page:
            return journal_lists.page(wanted, after, limit=_PAGE_ROWS)

        while True:
            rows, stopped_at = self.database.with_connection(read)
            yield from rows
            if len(rows) < _PAGE_ROWS and stopped_at is None:
                return
            after = stopped_at or journal_lists.cursor(rows[-1])


def rejection_first(events: Iterable[Event]) -> list[Event]:
    """Return a reference's entries with the rejection first: a move and a block that followed name it, too."""
    return sorted(events, key=lambda event: event.code is None)


def cards_of(events: Iterable[Event]) -> list[str | None]:
    """Return the cards of entries, and those that their details name."""
    return [
        card_id
        for event in events
        for card_id in (event.card_id, *((event.details or {}).get(name) for name in _NAMING_CARDS))
    ]
