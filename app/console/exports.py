"""Cards as a file."""

from collections.abc import Iterator
from datetime import datetime, tzinfo

import falcon

from app.console.card_query import FIELDS, CardQuery, read_query
from app.console.forms import query_of
from app.console.page import Access, Page, form_of, visitor_of
from app.console.selection import selected_ids
from app.console.streaming import CSV, JSON, TEXT, file_name, json_pieces, with_bom
from app.domain.texts import RefusedError, Text
from app.http.problems import invalid_request
from app.services.exports import CARD_COLUMNS, csv_lines, documents_of, note_export
from app.storage import card_lists
from app.storage import cards as card_rows
from app.storage.card_lists import CardFilter, Row

_TYPES = {"csv": CSV, "json": JSON, "txt": TEXT}


class CardsExport(Page):
    """`/admin/cards/export`: the cards chosen in the form, or else all that the filter in the query lets through."""

    access = {"POST": Access.OWNER}

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Send them as CSV, as JSON, or their IDs alone as text."""
        query, form, console = query_of(request), form_of(request), self.console
        output, now = form.one("format"), console.clock()
        said: dict[str, object] = {name: query.one(name) for name in FIELDS if query.one(name)}
        if output not in _TYPES:
            raise invalid_request(Text("没有这种导出格式", "There is no such format."), "format")
        try:
            # The button beneath the list says so: without a card ticked its form looks like the one for all.
            if query.one("chosen") or form.all("id"):
                ids = selected_ids(form, "id")
                said = {"chosen": len(ids)}
                rows = iter(console.database.with_connection(lambda: card_rows.find_all(ids)))
            else:
                rows = card_lists.every(self._all(read_query(query, console.zone, now), now), now)
        except RefusedError as error:
            raise invalid_request(error.text) from error
        what = {"what": "cards", "format": output, "filter": said}
        console.streams.send(
            request,
            response,
            _pieces(output, rows, now, console.zone),
            content_type=_TYPES[output],
            name=file_name("cards", now, console.zone, output),
            note=lambda: note_export(console.database, now, visitor_of(request).actor, what),
        )

    def _all(self, asked: CardQuery, now: datetime) -> CardFilter:
        """Return the filter that lets all through that match."""
        searched = self.console.database.with_connection(lambda: card_lists.search(asked.wanted, asked.text, now))
        if not searched.is_whole:
            raise RefusedError(
                "搜索内容太短，符合的太多，不能全部导出：请多输入几个字符，或加上其他条件",
                "too little to search for, too many to export: type a few characters more, or filter them",
            )
        return searched.wanted


def _pieces(output: str, rows: Iterator[Row], now: datetime, zone: tzinfo) -> Iterator[str]:
    if output == "txt":
        return (f"{card.id}\n" for card, _client in rows)
    documents = documents_of(rows, now, zone)
    return json_pieces(documents) if output == "json" else with_bom(csv_lines(documents, CARD_COLUMNS))
