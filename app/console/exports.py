"""Exports of cards as files."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import falcon

from app.console.form_page import check_own_password, refuse
from app.console.forms import OWN_PASSWORD, query_of, selected_ids
from app.console.page import Access, Page, form_of, see_other, visitor_of
from app.console.streaming import CONTENT_TYPES
from app.domain.texts import RefusedError, Text
from app.http.problems import invalid_request
from app.services.exports import CARD_COLUMNS, Row, card_documents, file_pieces, record_export
from app.services.filters import CARD_FIELDS, parse_card_filter


class ExportPage(Page):
    """A page that sends rows as a file, once the visitor has shown who they are, and journals that."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}
    what: ClassVar[str]
    """What is in the rows: in the file's name and the journal."""
    back: ClassVar[str]
    """The page of the list that is exported."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Redirect to the list: a reload or a change of language brings no selection."""
        see_other(response, self.back)

    def confirm(
        self, request: falcon.Request, response: falcon.Response, output_format: str, selection: dict[str, Any]
    ) -> bool:
        """Return whether the form has the visitor's own password, and their code; else ask for them."""
        form, refusal = form_of(request), None
        if form.exactly(OWN_PASSWORD):
            try:
                check_own_password(self.console, request)
            except RefusedError as error:
                refuse(response, error)
                refusal = error.text
            else:
                return True
        self.render(
            request,
            response,
            "export.html",
            what=self.what,
            output_format=output_format,
            selection=selection,
            ids=form.all("id"),
            action=request.relative_uri,
            back=self.back,
            refusal=refusal,
        )
        return False

    def send(  # noqa: PLR0913  # a request, its answer, and what is in it
        self,
        request: falcon.Request,
        response: falcon.Response,
        output_format: str,
        rows: Iterable[Row],
        columns: Sequence[str],
        selection: dict[str, Any],
    ) -> None:
        """Answer with rows as a file; what they are and their `selection` stand in the journal."""
        now, database = self.console.clock(), self.console.database
        details = {"what": self.what, "format": output_format, "filter": selection}
        name = f"{self.what}-{now.astimezone(self.console.zone):%Y%m%d-%H%M%S}.{output_format}"

        def pieces() -> Iterator[str]:
            record_export(database, now, visitor_of(request).actor, details)
            yield from file_pieces(output_format, rows, columns)

        self.console.streams.send(response, pieces(), output_format=output_format, name=name)


class CardsExport(ExportPage):
    """`/admin/cards/export`: the cards selected in the form, or else all cards that match the filter in the query."""

    what = "cards"
    back = "/admin/cards"

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Send them as CSV, as JSON, or their IDs alone as text."""
        query, form, console = query_of(request), form_of(request), self.console
        output_format = form.one("format")
        if output_format not in CONTENT_TYPES:
            raise invalid_request(Text("没有这种导出格式", "There is no such format."), "format")
        selection: dict[str, Any] = {name: query.one(name) for name in CARD_FIELDS if query.one(name)}
        try:
            # `chosen` is set by the button beneath the list: without a selection its form looks like the one for all.
            if query.one("chosen") or form.all("id"):
                ids = selected_ids(form, "id")
                selection = {"chosen": len(ids)}
                lines = iter(console.cards.find_all(ids))
            else:
                lines = console.cards.every(parse_card_filter(selection, console.zone, console.clock()))
        except RefusedError as error:
            raise invalid_request(error.text) from error
        if self.confirm(request, response, output_format, selection):
            self.send(request, response, output_format, card_documents(lines, console.zone), CARD_COLUMNS, selection)
