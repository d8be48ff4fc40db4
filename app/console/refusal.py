"""Pages that explain a refusal by its reference, and that move a card to the machine that was refused."""

from typing import Any

import falcon

from app.console.form_page import FormPage
from app.console.forms import Form, query_of
from app.console.page import Access, Page, Values, visitor_of
from app.console.rendering import url
from app.domain.codes import Code
from app.domain.texts import RefusedError
from app.services.cards.card_moves import CardMoves
from app.services.cards.filters import parse_journal_filter
from app.services.journal.journal_lists import NO_SUCH_REFERENCE, cards_of, page_for, rejection_first
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
        rows = rejection_first(page_for(who, wanted, PageRequest(size=_ENTRIES)).rows)
        event = rows[0] if rows else None
        if event is None:
            response.status = falcon.HTTP_404
        keys, card = console.cards.keys(who, cards_of(rows)), None
        entries: list[Any] = []
        if event is not None and event.card_id in keys:
            card = console.cards.find(event.card_id)
            of_card = parse_journal_filter({"card": event.card_id}, console.zone)
            entries = page_for(who, of_card, PageRequest(size=_ENTRIES)).rows
            keys |= console.cards.keys(who, cards_of(entries))
        self.console.renderer.render(
            request,
            response,
            "journal/refusal.html",
            reference=reference,
            event=event,
            later=[each for each in rows[1:] if each.card_id in (None, rows[0].card_id)],
            card=card,
            possible=[] if card is None else self.possible_actions(request, card),
            can_move=(
                event is not None
                and event.code == Code.CLIENT_MISMATCH
                and card is not None
                and self.may_change(request, card)
            ),
            entries=entries,
            card_keys=keys,
            unknown=NO_SUCH_REFERENCE,
        )


class MovePage(FormPage):
    """`/admin/card/move?id=…&reference=…`: a confirmation with both machines, and the move."""

    access = {"GET": Access.OPERATOR, "POST": Access.OPERATOR}
    template = "cards/move.html"
    takes_query = True

    def change(self, request: falcon.Request, _response: falcon.Response, form: Form) -> str:
        self.check_may_change(request)
        move = self.service(request, CardMoves, self.issuer(request)).apply(form.one("id"), form.one("reference"))
        return url("/admin/card", id=move.card.id)

    def values(self, request: falcon.Request, form: Form) -> Values:
        self.check_may_change(request)
        reference, move, refusal = form.one("reference"), None, None
        try:
            move = self.service(request, CardMoves, self.issuer(request)).preview(form.one("id"), reference)
        except RefusedError as error:
            refusal = error.text
        ids = [] if move is None else [move.card.id, *([move.rival.card_id] if move.rival else [])]
        keys = self.console.cards.keys(visitor_of(request).who, ids)
        return {"move": move, "reference": reference, "refusal": refusal, "card_keys": keys}
