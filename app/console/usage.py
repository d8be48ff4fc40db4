"""Accepted requests, counted by day, function and card."""

from typing import Any

import falcon

from app.console.forms import query_of
from app.console.page import Access, Page, visitor_of
from app.domain.texts import RefusedError
from app.services.paging import Slice
from app.services.usage_lists import DEFAULT_DAYS, USAGE_FIELDS


class UsagePage(Page):
    """`/admin/usage`."""

    access = {"GET": Access.OPERATOR}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show a page of the counts of a function, a day, a card; to a seller only those of a card."""
        query, visitor = query_of(request), visitor_of(request)
        typed = {name: query.exactly(name) for name in USAGE_FIELDS}
        after = query.exactly("after")
        refusal, found = None, Slice[Any]([])
        try:
            if visitor.is_owner or typed["card"].strip():
                found = self.console.usage.page(typed, after)
        except RefusedError as error:
            refusal = error.text
            response.status = falcon.HTTP_400
        self.render(
            request,
            response,
            "usage.html",
            typed=typed,
            days=DEFAULT_DAYS,
            found=found,
            card_keys=self.console.cards.keys(visitor.who, (row.card_id for row in found.rows), typed["card"]),
            refusal=refusal,
            is_first=not after,
        )
