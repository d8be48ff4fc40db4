"""Accepted requests, counted by day, function and card."""

import falcon

from app.console.forms import query_of
from app.console.page import Access, Page, visitor_of
from app.domain.texts import RefusedError
from app.services.paging import Slice
from app.services.usage_lists import DEFAULT_DAYS, USAGE_FIELDS, UsageResults


class UsagePage(Page):
    """`/admin/usage`."""

    access = {"GET": Access.OPERATOR}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show a page of the counts of a function, a day, a card."""
        query = query_of(request)
        typed = {name: query.exactly(name) for name in USAGE_FIELDS}
        after = query.exactly("after")
        refusal, page = None, UsageResults(Slice([]))
        try:
            page = self.console.usage.page(typed, after, visitor_of(request).who)
        except RefusedError as error:
            refusal = error.text
            response.status = falcon.HTTP_400
        self.render(
            request,
            response,
            "usage.html",
            typed=typed,
            days=DEFAULT_DAYS,
            found=page.found,
            shown_ids=page.shown,
            refusal=refusal,
            is_first=not after,
        )
