"""Cards as a file."""

from collections.abc import Iterator
from datetime import tzinfo
from typing import Any

import falcon

from app.console.forms import query_of
from app.console.page import Access, Page, form_of, visitor_of
from app.console.selection import selected_ids
from app.console.streaming import CSV, JSON, TEXT, file_name, json_pieces, with_bom
from app.domain.texts import RefusedError, Text
from app.http.problems import invalid_request
from app.services.card_filter import CARD_FIELDS, parse_card_filter
from app.services.card_lists import Line
from app.services.exports import CARD_COLUMNS, card_documents, csv_lines, note_export

_TYPES = {"csv": CSV, "json": JSON, "txt": TEXT}


class CardsExport(Page):
    """`/admin/cards/export`: the cards chosen in the form, or else all that the filter in the query lets through."""

    access = {"POST": Access.OWNER}

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Send them as CSV, as JSON, or their IDs alone as text."""
        query, form, console = query_of(request), form_of(request), self.console
        output, now = form.one("format"), console.clock()
        said: dict[str, Any] = {name: query.one(name) for name in CARD_FIELDS if query.one(name)}
        if output not in _TYPES:
            raise invalid_request(Text("没有这种导出格式", "There is no such format."), "format")
        try:
            # The button beneath the list says so: without a card ticked its form looks like the one for all.
            if query.one("chosen") or form.all("id"):
                ids = selected_ids(form, "id")
                said = {"chosen": len(ids)}
                lines = iter(console.cards.find_all(ids))
            else:
                lines = console.cards.every(parse_card_filter(said, console.zone, now))
        except RefusedError as error:
            raise invalid_request(error.text) from error
        what = {"what": "cards", "format": output, "filter": said}
        console.streams.send(
            request,
            response,
            _pieces(output, lines, console.zone),
            content_type=_TYPES[output],
            name=file_name("cards", now, console.zone, output),
            note=lambda: note_export(console.database, now, visitor_of(request).actor, what),
        )


def _pieces(output: str, lines: Iterator[Line], zone: tzinfo) -> Iterator[str]:
    if output == "txt":
        return (f"{line.card.id}\n" for line in lines)
    documents = card_documents(lines, zone)
    return json_pieces(documents) if output == "json" else with_bom(csv_lines(documents, CARD_COLUMNS))
