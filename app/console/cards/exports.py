"""Exports of cards as files."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import falcon

from app.console.form_page import FormPage
from app.console.forms import OWN_PASSWORD, Form, query_of, selected_ids
from app.console.page import Values, visitor_of
from app.console.streaming import CONTENT_TYPES, send
from app.domain.texts import RefusedError, Text
from app.http.problems import invalid_request
from app.services.cards.exports import CARD_COLUMNS, Row, card_documents, file_pieces, record_export
from app.services.cards.filters import CARD_FIELDS, parse_card_filter

Export = tuple[str, dict[str, Any], Iterable[Row], Sequence[str]]
"""The format of a file, the selection of rows for the journal, the rows, and their columns."""


class ExportPage(FormPage):
    """A page that sends rows as a file, once the visitor has shown who they are, and journals that."""

    template = "cards/export.html"
    what: ClassVar[str]
    """What is in the rows: in the file's name and the journal."""

    @abstractmethod
    def export(self, request: falcon.Request, form: Form) -> Export:
        """Return what a form asks for; its rows are not read yet."""

    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> None:
        output_format, selection, rows, columns = self.export(request, form)
        if not form.exactly(OWN_PASSWORD):
            self.show(request, response, form)
            return
        self.check_own_password(request, form)
        now = self.console.clock()
        details = {"what": self.what, "format": output_format, "filter": selection}
        name = f"{self.what}-{now.astimezone(self.console.zone):%Y%m%d-%H%M%S}.{output_format}"

        def pieces() -> Iterator[str]:
            record_export(now, visitor_of(request).actor, details)
            yield from file_pieces(output_format, rows, columns)

        send(response, pieces(), output_format=output_format, name=name)

    def values(self, request: falcon.Request, form: Form) -> Values:
        output_format, selection, _rows, _columns = self.export(request, form)
        return {
            "what": self.what,
            "output_format": output_format,
            "selection": selection,
            "ids": form.all("id"),
            "action": request.relative_uri,
            "back": self.leads_to,
        }


class CardsExport(ExportPage):
    """`/admin/cards/export`: the cards selected in the form, or all that match the query; as CSV, JSON or IDs."""

    what = "cards"
    leads_to = "/admin/cards"

    def export(self, request: falcon.Request, form: Form) -> Export:
        query, console = query_of(request), self.console
        output_format = form.one("format")
        if output_format not in CONTENT_TYPES:
            raise invalid_request(Text("没有这种导出格式", "There is no such format."), "format")
        selection: dict[str, Any] = {name: query.one(name) for name in CARD_FIELDS if query.one(name)}
        program = visitor_of(request).program
        if program is not None:
            selection["program"] = program
        # `chosen` is set by the button beneath the list: without a selection its form looks like the one for all.
        if query.one("chosen") or form.all("id"):
            ids = selected_ids(form, "id")
            selection = {"chosen": len(ids)}
            cards = iter(console.cards.find_all(ids))
        else:
            try:
                wanted = parse_card_filter(selection, console.zone, console.clock())
                cards = console.cards.every(replace(wanted, program=program))
            except RefusedError as error:
                raise invalid_request(error.text) from error
        return output_format, selection, card_documents(cards, console.zone), CARD_COLUMNS
