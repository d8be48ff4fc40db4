"""The list of cards."""

from datetime import datetime
from typing import NamedTuple

import falcon

from app.console.card_query import SIZES, SPANS, CardQuery, read_query, typed
from app.console.forms import Form, query_of
from app.console.page import Access, Page
from app.console.paging import Slice, slice_of
from app.domain.codes import CardStatus
from app.domain.texts import RefusedError
from app.storage import card_lists, finding
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


class CardsPage(Page):
    """`/admin/cards`."""

    access = {"GET": Access.OPERATOR}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the cards that the filter lets through."""
        query, now = query_of(request), self.console.clock()
        refusal, size, shown = None, SIZES[0], _Shown(Slice([]), 0, is_broad=False)
        try:
            asked = read_query(query, self.console.zone, now)
        except RefusedError as error:
            refusal = error.text
            response.status = falcon.HTTP_400
        else:
            size = asked.size
            shown = self.console.database.with_connection(lambda: _read(query, asked, now))
        self.render(
            request,
            response,
            "cards.html",
            typed=typed(query),
            found=shown.found,
            total=shown.total,
            most_counted=MOST_COUNTED,
            is_broad=shown.is_broad,
            refusal=refusal,
            size=size,
            sizes=SIZES,
            spans=list(SPANS),
            states=(CardStatus.UNUSED, CardStatus.ACTIVE, CardStatus.EXPIRED, CardStatus.FROZEN),
            back=request.relative_uri,
        )


def _read(query: Form, asked: CardQuery, now: datetime) -> _Shown:
    wanted = asked.wanted

    def fetch(cursor: Cursor | None, backwards: bool, limit: int) -> list[Line]:  # noqa: FBT001  # a Fetch
        rows = card_lists.page(wanted, now, cursor, limit=limit, backwards=backwards)
        return [Line(card, client, card_rows.as_domain(card).status(now)) for card, client in rows]

    found = slice_of(query, fetch, lambda line: card_lists.cursor(wanted, line.card), asked.size)
    is_whole = found.before is None and found.after is None  # a search for what is rare is not made twice
    return _Shown(
        found,
        len(found.rows) if is_whole else card_lists.count_at_most(wanted, now, MOST_COUNTED + 1),
        is_broad=wanted.text is not None and finding.is_broad(wanted.text),
    )
