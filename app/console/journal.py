"""The journal and its export."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import falcon

from app.console.exports import Export, ExportPage
from app.console.forms import Form, query_of
from app.console.page import Access, Page, Values, page_request, visitor_of
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
    template = "journal.html"

    def values(self, request: falcon.Request, form: Form) -> Values:
        zone, who = self.console.zone, visitor_of(request).who
        typed = {name: form.exactly(name) for name in JOURNAL_FIELDS}
        refusal, found = None, Slice[Any]([])
        keys: dict[str, str] = {}
        try:
            wanted = parse_journal_filter(typed, zone)
            found = self.console.journal.page(wanted, page_request(form), who)
            keys = self.console.cards.keys(who, cards_of(found.rows), wanted.card_text or wanted.card_id or "")
            typed |= {"since": _input_value(wanted.since, zone), "until": _input_value(wanted.until, zone)}
        except RefusedError as error:
            refusal = error.text
        return {
            "typed": typed,
            "found": found,
            "card_keys": keys,
            "max_looked": MAX_LOOKED,
            "refusal": refusal,
            "kinds": [str(kind) for kind in EventKind],
            "codes": [str(code) for code in REJECTIONS],
        }


class JournalExport(ExportPage):
    """`/admin/journal/export`: takes the filter from the query, as the journal's page does."""

    what = "journal"
    leads_to = "/admin/journal"

    def export(self, request: falcon.Request, form: Form) -> Export:
        query, console = query_of(request), self.console
        typed = {name: query.exactly(name) for name in JOURNAL_FIELDS if query.exactly(name)}
        try:
            wanted = parse_journal_filter(typed, console.zone)
        except RefusedError as error:
            raise invalid_request(error.text) from error
        entries = journal_documents(console.journal.every(wanted), console.zone)
        rows = ({name: entry[name] for name in JOURNAL_COLUMNS} for entry in entries)
        return Export("json" if form.one("format") == "json" else "csv", typed, rows, JOURNAL_COLUMNS)


def _input_value(time: datetime | None, zone: ZoneInfo) -> str:
    """Return a time as the value of a browser's field for times, in the vendor's zone."""
    if time is None:
        return ""
    local = time.astimezone(zone)
    return local.strftime("%Y-%m-%dT%H:%M:%S" if local.second else "%Y-%m-%dT%H:%M")
