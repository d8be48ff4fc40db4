"""Accepted requests, counted by day, function and card."""

from datetime import date

import falcon

from app.console.forms import query_of
from app.console.page import Access, Page
from app.console.paging import PAGE_ROWS, Slice
from app.domain.cards import parse_card_id
from app.domain.texts import Text
from app.storage.models import Usage
from app.storage.usage_lists import DAYS, UsageFilter, UsagePlace, usage_page


class UsagePage(Page):
    """`/admin/usage`."""

    access = {"GET": Access.OPERATOR}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the counts of a function, a day, a card."""
        query = query_of(request)
        function, typed_day, card = query.exactly("function"), query.one("day"), query.one("card")
        refusal, day = None, _read_day(typed_day)
        if typed_day and day is None:
            refusal = Text(f"“{typed_day}”不是有效的日期", f"“{typed_day}” is no date")
            response.status = falcon.HTTP_400
        after = _read_place(query.exactly("after"))
        wanted = UsageFilter(function or None, day, parse_card_id(card) or card or None)
        today = self.console.clock().astimezone(self.console.zone).date()
        found: Slice[Usage] = Slice([])
        if refusal is None:
            limit = PAGE_ROWS + 1
            rows = self.console.database.with_connection(lambda: usage_page(wanted, today, after, limit=limit))
            found = Slice(rows[:PAGE_ROWS], None, _write_place(rows[PAGE_ROWS - 1]) if len(rows) == limit else None)
        self.render(
            request,
            response,
            "usage.html",
            function=function,
            day=typed_day,
            card=card,
            days=DAYS,
            found=found,
            refusal=refusal,
            is_first=after is None,
        )


def _read_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _write_place(usage: Usage) -> str:
    return f"{usage.day.isoformat()}.{usage.card_id}.{usage.function}"


def _read_place(text: str) -> UsagePlace | None:
    day, _, rest = text.partition(".")
    card_id, dot, function = rest.partition(".")
    read = _read_day(day)
    return UsagePlace(read, function, card_id) if read is not None and dot else None
