"""Pages that explain a refusal by its reference, and that move a card to the machine that was refused."""

from typing import Any

import falcon

from app.console.forms import query_of
from app.console.page import Access, Page, form_of, see_other, visitor_of
from app.console.rendering import url
from app.domain.codes import Code
from app.domain.texts import RefusedError, Text
from app.services.card_moves import CardMoves, Move
from app.services.filters import parse_journal_filter
from app.services.journal_lists import NO_SUCH_REFERENCE, cards_of, rejection_first
from app.services.paging import PageRequest

_ENTRIES = 10


class RefusalPage(Page):
    """`/admin/refusal?reference=…`."""

    access = {"GET": Access.OPERATOR}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show why a request was refused, and what would help; a reference that is not there is explained."""
        console, who = self.console, visitor_of(request).who
        reference = query_of(request).one("reference")
        wanted = parse_journal_filter({"reference": reference}, console.zone)
        rows = rejection_first(console.journal.page(wanted, PageRequest(size=_ENTRIES), who).rows)
        event = rows[0] if rows else None
        if event is None:
            response.status = falcon.HTTP_404
        keys, line = console.cards.keys(who, cards_of(rows)), None
        entries: list[Any] = []
        if event is not None and event.card_id in keys:
            line = console.cards.find(event.card_id)
            of_card = parse_journal_filter({"card": event.card_id}, console.zone)
            entries = console.journal.page(of_card, PageRequest(size=_ENTRIES), who).rows
            keys |= console.cards.keys(who, cards_of(entries))
        self.render(
            request,
            response,
            "refusal.html",
            reference=reference,
            event=event,
            later=[each for each in rows[1:] if each.card_id in (None, rows[0].card_id)],
            line=line,
            possible=[] if line is None else self.possible_actions(request, line),
            can_move=(
                event is not None
                and event.code == Code.CLIENT_MISMATCH
                and line is not None
                and self.may_change(request, line)
            ),
            entries=entries,
            card_keys=keys,
            unknown=NO_SUCH_REFERENCE,
        )


class MovePage(Page):
    """`/admin/card/move?id=…&reference=…`: a confirmation with both machines, and the move."""

    access = {"GET": Access.OPERATOR, "POST": Access.OPERATOR}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        self.check_may_change(request)
        query = query_of(request)
        self._confirm(request, response, query.one("id"), query.one("reference"))

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Move the card; where that is refused, say why."""
        self.check_may_change(request)
        form = form_of(request)
        card_id, reference = form.one("id"), form.one("reference")
        try:
            move = self._moves(request).apply(card_id, reference)
        except RefusedError as error:
            self._confirm(request, response, card_id, reference, error.text)
        else:
            see_other(response, url("/admin/card", id=move.card.id))

    def _confirm(
        self,
        request: falcon.Request,
        response: falcon.Response,
        card_id: str,
        reference: str,
        refusal: Text | None = None,
    ) -> None:
        move: Move | None = None
        try:
            move = self._moves(request).preview(card_id, reference)
        except RefusedError as error:
            refusal = error.text
        if refusal is not None:
            response.status = falcon.HTTP_400
        ids = [] if move is None else [move.card.id, *([move.rival.card_id] if move.rival else [])]
        keys = self.console.cards.keys(visitor_of(request).who, ids)
        self.render(request, response, "move.html", move=move, reference=reference, refusal=refusal, card_keys=keys)

    def _moves(self, request: falcon.Request) -> CardMoves:
        who, console = visitor_of(request), self.console
        return CardMoves(console.database, who.actor, console.clock, self.limits(request), self.issuer(request))
