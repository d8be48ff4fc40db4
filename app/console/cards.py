"""The list of cards."""

from datetime import datetime
from typing import NamedTuple

import falcon

from app.console import key_masking
from app.console.card_query import SIZES, SPANS, CardQuery, read_query, typed
from app.console.forms import Form, query_of
from app.console.page import Access, Page, visitor_of
from app.console.paging import Slice, slice_of
from app.console.visitor import Visitor
from app.domain.codes import CardStatus
from app.domain.texts import RefusedError
from app.storage import card_lists
from app.storage import cards as card_rows
from app.storage.models import Card, Client
from app.storage.paging import Cursor

MOST_COUNTED = 10_000
"""A list's cards are counted so far; nobody reads more."""


class Line(NamedTuple):
    """A card in a list."""

    card: Card
    client: Client | None
    status: CardStatus


class _Shown(NamedTuple):
    found: Slice[Line]
    total: int
    is_broad: bool
    hidden: frozenset[str]


class CardsPage(Page):
    """`/admin/cards`."""

    access = {"GET": Access.OPERATOR}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the cards that the filter lets through."""
        query, now = query_of(request), self.console.clock()
        refusal, size, shown = None, SIZES[0], _Shown(Slice([]), 0, is_broad=False, hidden=frozenset())
        try:
            asked = read_query(query, self.console.zone, now)
        except RefusedError as error:
            refusal = error.text
            response.status = falcon.HTTP_400
        else:
            size = asked.size
            visitor = visitor_of(request)
            shown = self.console.database.with_connection(lambda: _read(query, asked, now, visitor))
        self.render(
            request,
            response,
            "cards.html",
            typed=typed(query),
            found=shown.found,
            total=shown.total,
            most_counted=MOST_COUNTED,
            most_searched=card_lists.MOST_SEARCHED,
            is_broad=shown.is_broad,
            hidden=shown.hidden,
            refusal=refusal,
            size=size,
            sizes=SIZES,
            spans=SPANS,
            states=(CardStatus.UNUSED, CardStatus.ACTIVE, CardStatus.EXPIRED, CardStatus.FROZEN),
            back=request.relative_uri,
        )


def _read(query: Form, asked: CardQuery, now: datetime, visitor: Visitor) -> _Shown:
    wanted, is_found_whole = card_lists.search(asked.wanted, asked.text, now, key_masking.seller_of(visitor))

    def fetch(cursor: Cursor | None, backwards: bool, limit: int) -> list[Line]:  # noqa: FBT001  # a Fetch
        rows = card_lists.page(wanted, now, cursor, limit=limit, backwards=backwards)
        return [Line(card, client, card_rows.as_domain(card).status(now)) for card, client in rows]

    def place(line: Line) -> Cursor | str:
        cursor = card_lists.cursor(wanted, line.card)
        return cursor if visitor.is_owner else key_masking.seal(cursor)

    found = slice_of(query, fetch, place, asked.size, Cursor.parse if visitor.is_owner else key_masking.unseal)
    is_whole = found.before is None and found.after is None  # a search for what is rare is not made twice
    return _Shown(
        found,
        len(found.rows) if is_whole else card_lists.count_at_most(wanted, now, MOST_COUNTED + 1),
        is_broad=not is_found_whole,
        hidden=key_masking.hidden_from(visitor, (line.card.id for line in found.rows), query.one("q")),
    )
