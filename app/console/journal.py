"""The journal: what happened, to whom, from where; and as a file."""

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import falcon

from app.console.forms import Form, query_of
from app.console.key_masking import hidden_from
from app.console.page import Access, Page, form_of, visitor_of
from app.console.paging import Slice, slice_of
from app.console.streaming import CSV, JSON, file_name, json_pieces, with_bom
from app.console.times import input_value, parse_time
from app.console.visitor import Visitor
from app.domain.addresses import read_network
from app.domain.cards import parse_card_id
from app.domain.codes import Code, EventKind
from app.domain.texts import RefusedError
from app.http.problems import invalid_request
from app.services.exports import JOURNAL_COLUMNS, csv_lines, journal_documents, note_export
from app.storage import journal_lists
from app.storage.journal_lists import JournalFilter
from app.storage.models import Event
from app.storage.paging import Cursor

REJECTIONS = [code for code in Code if code is not Code.OK]
_KINDS: dict[str, EventKind | Code] = {**{str(k): k for k in EventKind}, **{str(c): c for c in REJECTIONS}}
FIELDS = ("kind", "card", "hardware", "address", "function", "actor", "reference", "since", "until")


class JournalPage(Page):
    """`/admin/journal`."""

    access = {"GET": Access.OPERATOR}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the entries that the filter lets through, newest first."""
        query = query_of(request)
        typed = {name: query.exactly(name) for name in FIELDS}
        refusal, found, hidden, looked_to = None, Slice[Event]([]), frozenset[str](), None
        try:
            wanted = read_filter(query, self.console.zone)
            typed |= {name: input_value(getattr(wanted, name), self.console.zone) for name in ("since", "until")}
            visitor = visitor_of(request)
            found, hidden, looked_to = self.console.database.with_connection(lambda: _read(query, wanted, visitor))
        except RefusedError as error:
            refusal = error.text
            response.status = falcon.HTTP_400
        self.render(
            request,
            response,
            "journal.html",
            typed=typed,
            found=found,
            hidden=hidden,
            looked_to=looked_to,
            most_looked=journal_lists.MOST_LOOKED,
            refusal=refusal,
            kinds=[str(kind) for kind in EventKind],
            codes=[str(code) for code in REJECTIONS],
        )


class JournalExport(Page):
    """`/admin/journal/export`: the filter stands in the query, as it does in the journal's."""

    access = {"POST": Access.OWNER}

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Send all entries that the filter lets through, as CSV or JSON."""
        query, console = query_of(request), self.console
        output = "json" if form_of(request).one("format") == "json" else "csv"
        try:
            wanted = read_filter(query, console.zone)
        except RefusedError as error:
            raise invalid_request(error.text) from error
        documents = journal_documents(wanted, console.zone)
        pieces = json_pieces(documents) if output == "json" else with_bom(csv_lines(documents, JOURNAL_COLUMNS))
        now = console.clock()
        said = {name: query.exactly(name) for name in FIELDS if query.exactly(name)}
        what = {"what": "journal", "format": output, "filter": said}
        console.streams.send(
            request,
            response,
            pieces,
            content_type=JSON if output == "json" else CSV,
            name=file_name("journal", now, console.zone, output),
            note=lambda: note_export(console.database, now, visitor_of(request).actor, what),
        )


def read_filter(query: Form, zone: ZoneInfo) -> JournalFilter:
    """Read what a query asks for; strangers' texts (hardware, function) exactly as they are.

    Raises:
        RefusedError: a kind, an address or a time is none.
    """
    kind, card, address = query.one("kind"), query.one("card"), query.one("address")
    if kind and kind not in _KINDS:
        raise RefusedError(f"没有“{kind}”这种日志类型", f"there is no kind “{kind}”")
    try:
        network = read_network(address) if address else None
    except ValueError as error:
        raise RefusedError(f"“{address}”不是有效的 IP 地址", f"“{address}” is no IP address") from error
    return JournalFilter(
        kind=_KINDS.get(kind),
        card_id=parse_card_id(card) or card or None,
        hardware=query.exactly("hardware") or None,
        network=network,
        actor=query.one("actor") or None,
        reference=query.one("reference").upper() or None,
        function=query.exactly("function") or None,
        since=parse_time(query.one("since"), zone),
        until=parse_time(query.one("until"), zone),
    )


def _read(query: Form, wanted: JournalFilter, visitor: Visitor) -> tuple[Slice[Event], frozenset[str], datetime | None]:
    """Read a page; the time is where the look ended before all was looked at."""
    ended_at: Cursor | None = None

    def fetch(after: Cursor | None, backwards: bool, limit: int) -> list[Event]:  # noqa: FBT001  # a Fetch
        nonlocal ended_at
        looked = journal_lists.look(wanted, after, limit=limit, backwards=backwards)
        ended_at = looked.ended_at
        return looked.rows

    found = slice_of(query, fetch, journal_lists.cursor, is_over=lambda: ended_at is None)
    if ended_at is not None and found.after is None:
        found = replace(found, after=str(ended_at))
    hidden = hidden_from(visitor, (event.card_id for event in found.rows), query.one("card"))
    return found, hidden, None if ended_at is None else ended_at.at
