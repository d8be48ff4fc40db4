"""The lists of cards, of the journal and of usage, and the export of the journal."""

from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import falcon

from app.console.cards.exports import Export, ExportPage
from app.console.forms import Form, query_of
from app.console.page import Access, Page, Values, lead_to, page_request, visitor_of
from app.console.rendering import url
from app.domain.cards.pasted import bare_reference, reference_in
from app.domain.codes import CardStatus, EventKind
from app.domain.texts import RefusedError
from app.http.problems import invalid_request
from app.services.cards import filters
from app.services.cards.card_lists import MAX_COUNTED, CardResults
from app.services.cards.exports import JOURNAL_COLUMNS, journal_documents
from app.services.journal import journal_lists
from app.services.journal.journal_lists import MAX_LOOKED, cards_of
from app.services.paging import Slice
from app.services.reports import usage_lists
from app.services.reports.usage_lists import DEFAULT_DAYS, USAGE_FIELDS

_SIZES = (50, 200, 500)


class CardsPage(Page):
    access = {"GET": Access.OPERATOR}
    template = "cards/cards.html"

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        if answer := self._answer(query_of(request).one("q")):
            lead_to(request, response, answer)
        else:
            super().on_get(request, response)

    def values(self, request: falcon.Request, form: Form) -> Values:
        console, typed = self.console, {name: form.one(name) for name in filters.CARD_FIELDS}
        size = next((size for size in _SIZES if str(size) == form.one("size")), _SIZES[0])
        refusal, page = None, CardResults(Slice([]))
        try:
            wanted = filters.parse_card_filter(typed, console.zone, console.clock())
            wanted = replace(wanted, program=visitor_of(request).program)
            page = console.cards.page(wanted, page_request(form, size), visitor_of(request).who)
        except RefusedError as error:
            refusal = error.text
        return {
            **page._asdict(),
            "typed": typed,
            "max_counted": MAX_COUNTED,
            "refusal": refusal,
            "size": size,
            "sizes": _SIZES,
            "presets": filters.EXPIRY_PRESETS,
            "sorts": filters.SORTS,
            "states": (CardStatus.UNUSED, CardStatus.ACTIVE, CardStatus.EXPIRED, CardStatus.FROZEN, CardStatus.SPENT),
            "back": request.relative_uri,
        }

    def _answer(self, text: str) -> str | None:
        """Return the page that a pasted text is about: a refusal by its reference, or a batch."""
        reference, bare = reference_in(text), bare_reference(text)
        if reference is None and bare is not None:
            wanted = filters.parse_journal_filter({"reference": bare}, self.console.zone)
            reference = bare if journal_lists.page(wanted, limit=1).rows else None
        if reference is not None:
            return url("/admin/refusal", reference=reference)
        name = text.strip()
        return url("/admin/cards", batch=name) if name and self.console.cards.has_batch(name) else None


class JournalPage(Page):
    access = {"GET": Access.OPERATOR}
    template = "journal/journal.html"

    def values(self, request: falcon.Request, form: Form) -> Values:
        zone, who = self.console.zone, visitor_of(request).who
        typed = {name: form.exactly(name) for name in filters.JOURNAL_FIELDS}
        refusal, found = None, Slice[Any]([])
        keys: dict[str, str] = {}
        try:
            wanted = replace(filters.parse_journal_filter(typed, zone), program=visitor_of(request).program)
            found = journal_lists.page_for(who, wanted, page_request(form))
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
            "codes": [str(code) for code in filters.REJECTIONS],
        }


class JournalExport(ExportPage):
    what = "journal"
    leads_to = "/admin/journal"

    def export(self, request: falcon.Request, form: Form) -> Export:
        query, console = query_of(request), self.console
        typed = {name: query.exactly(name) for name in filters.JOURNAL_FIELDS if query.exactly(name)}
        try:
            wanted = filters.parse_journal_filter(typed, console.zone)
        except RefusedError as error:
            raise invalid_request(error.text) from error
        program = visitor_of(request).program
        entries = journal_documents(journal_lists.every(replace(wanted, program=program)), console.zone)
        rows = ({name: entry[name] for name in JOURNAL_COLUMNS} for entry in entries)
        selection = typed | ({} if program is None else {"program": program})
        return "json" if form.one("format") == "json" else "csv", selection, rows, JOURNAL_COLUMNS


def _input_value(time: datetime | None, zone: ZoneInfo) -> str:
    """Return a time as the value of a browser's field for times, in the vendor's zone."""
    if time is None:
        return ""
    local = time.astimezone(zone)
    return local.strftime("%Y-%m-%dT%H:%M:%S" if local.second else "%Y-%m-%dT%H:%M")


class UsagePage(Page):
    """`/admin/usage`: the counts of a function, a day, a card; to a seller only those of a card."""

    access = {"GET": Access.OPERATOR}
    template = "reports/usage.html"

    def values(self, request: falcon.Request, form: Form) -> Values:
        visitor, after = visitor_of(request), form.exactly("after")
        typed = {name: form.exactly(name) for name in USAGE_FIELDS}
        refusal, found = None, Slice[Any]([])
        try:
            if visitor.is_owner or typed["card"].strip():
                today = self.console.clock().astimezone(self.console.zone).date()
                found = usage_lists.page(typed, after, today, visitor.program)
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
