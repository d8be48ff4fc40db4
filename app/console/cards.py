"""The list of cards."""

import falcon

from app.console.forms import Form, query_of
from app.console.page import Access, Page, Values, lead_to, page_request, visitor_of
from app.console.rendering import url
from app.domain.codes import CardStatus
from app.domain.pasted import bare_reference, reference_in
from app.domain.texts import RefusedError
from app.services.card_lists import MAX_COUNTED, MAX_SEARCHED, CardResults
from app.services.filters import CARD_FIELDS, EXPIRY_PRESETS, SORTS, parse_card_filter, parse_journal_filter
from app.services.paging import Slice

_SIZES = (50, 200, 500)


class CardsPage(Page):
    """`/admin/cards`."""

    access = {"GET": Access.OPERATOR}
    template = "cards.html"

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        if answer := self._answer(query_of(request).one("q")):
            lead_to(request, response, answer)
        else:
            super().on_get(request, response)

    def values(self, request: falcon.Request, form: Form) -> Values:
        console, typed = self.console, {name: form.one(name) for name in CARD_FIELDS}
        size = next((size for size in _SIZES if str(size) == form.one("size")), _SIZES[0])
        refusal, page = None, CardResults(Slice([]))
        try:
            wanted = parse_card_filter(typed, console.zone, console.clock())
            page = console.cards.page(wanted, page_request(form, size), visitor_of(request).who)
        except RefusedError as error:
            refusal = error.text
        return {
            **page._asdict(),
            "typed": typed,
            "max_counted": MAX_COUNTED,
            "max_searched": MAX_SEARCHED,
            "refusal": refusal,
            "size": size,
            "sizes": _SIZES,
            "presets": EXPIRY_PRESETS,
            "sorts": SORTS,
            "states": (CardStatus.UNUSED, CardStatus.ACTIVE, CardStatus.EXPIRED, CardStatus.FROZEN, CardStatus.SPENT),
            "back": request.relative_uri,
        }

    def _answer(self, text: str) -> str | None:
        """Return the page that a pasted text is about: a refusal by its reference, or a batch."""
        reference, bare = reference_in(text), bare_reference(text)
        if reference is None and bare is not None:
            wanted = parse_journal_filter({"reference": bare}, self.console.zone)
            reference = bare if self.console.journal.newest(wanted, 1) else None
        if reference is not None:
            return url("/admin/refusal", reference=reference)
        name = text.strip()
        return url("/admin/cards", batch=name) if name and self.console.cards.has_batch(name) else None
