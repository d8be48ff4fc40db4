"""The journal and its export."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import falcon

from app.console.exports import ExportPage
from app.console.forms import query_of
from app.console.page import Access, Page, form_of, page_request, visitor_of
from app.domain.codes import EventKind
from app.domain.texts import RefusedError
from app.http.problems import invalid_request
from app.services.exports import JOURNAL_COLUMNS, journal_documents
from app.services.filters import JOURNAL_FIELDS, REJECTIONS, parse_journal_filter
from app.services.journal_lists import MAX_LOOKED, cards_of
from app.services.paging import Slice


class JournalPage(Page):
    """`/admin/journal`."""

    access = {"GET": Access.OPERATOR}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        query, zone, who = query_of(request), self.console.zone, visitor_of(request).who
        typed = {name: query.exactly(name) for name in JOURNAL_FIELDS}
        refusal, found = None, Slice[Any]([])
        keys: dict[str, str] = {}
        try:
            wanted = parse_journal_filter(typed, zone)
            found = self.console.journal.page(wanted, page_request(query), who)
            keys = self.console.cards.keys(who, cards_of(found.rows), wanted.card_text or wanted.card_id or "")
            typed |= {"since": _input_value(wanted.since, zone), "until": _input_value(wanted.until, zone)}
        except RefusedError as error:
            refusal = error.text
            response.status = falcon.HTTP_400
        self.render(
            request,
            response,
            "journal.html",
            typed=typed,
            found=found,
            card_keys=keys,
            max_looked=MAX_LOOKED,
            refusal=refusal,
            kinds=[str(kind) for kind in EventKind],
            codes=[str(code) for code in REJECTIONS],
        )


class JournalExport(ExportPage):
    """`/admin/journal/export`: takes the filter from the query, as the journal's page does."""

    what = "journal"
    back = "/admin/journal"

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        query, console = query_of(request), self.console
        typed = {name: query.exactly(name) for name in JOURNAL_FIELDS if query.exactly(name)}
        output_format = "json" if form_of(request).one("format") == "json" else "csv"
        try:
            wanted = parse_journal_filter(typed, console.zone)
        except RefusedError as error:
            raise invalid_request(error.text) from error
        if not self.confirm(request, response, output_format, typed):
            return
        entries = journal_documents(console.journal.every(wanted), console.zone)
        rows = ({name: entry[name] for name in JOURNAL_COLUMNS} for entry in entries)
        self.send(request, response, output_format, rows, JOURNAL_COLUMNS, typed)


def _input_value(time: datetime | None, zone: ZoneInfo) -> str:
    """Return a time as the value of a browser's field for times, in the vendor's zone."""
    if time is None:
        return ""
    local = time.astimezone(zone)
    return local.strftime("%Y-%m-%dT%H:%M:%S" if local.second else "%Y-%m-%dT%H:%M")
