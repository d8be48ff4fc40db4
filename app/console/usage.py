"""Accepted requests, counted by day, function and card."""

from typing import Any

import falcon

from app.console.forms import Form
from app.console.page import Access, Page, Values, visitor_of
from app.domain.texts import RefusedError
from app.services.paging import Slice
from app.services.usage_lists import DEFAULT_DAYS, USAGE_FIELDS


class UsagePage(Page):
    """`/admin/usage`: the counts of a function, a day, a card; to a seller only those of a card."""

    access = {"GET": Access.OPERATOR}
    template = "usage.html"

    def values(self, request: falcon.Request, form: Form) -> Values:
        visitor, after = visitor_of(request), form.exactly("after")
        typed = {name: form.exactly(name) for name in USAGE_FIELDS}
        refusal, found = None, Slice[Any]([])
        try:
            if visitor.is_owner or typed["card"].strip():
                found = self.console.usage.page(typed, after)
        except RefusedError as error:
            refusal = error.text
        return {
            "typed": typed,
            "days": DEFAULT_DAYS,
            "found": found,
            "card_keys": self.console.cards.keys(visitor.who, (row.card_id for row in found.rows), typed["card"]),
            "refusal": refusal,
            "is_first": not after,
        }
