"""Pages that change the batch and the note of one card or many."""

from typing import Any

import falcon

from app.console.card_actions import outcome_of
from app.console.form_page import FormPage
from app.console.forms import Form, query_of, selected_ids
from app.console.guard import safe_next
from app.console.page import Access, Values, see_other, visitor_of
from app.domain.card_edits import Texts
from app.domain.texts import MAX_TEXT, RefusedError
from app.http.problems import invalid_request
from app.services.card_edits import CardEdits

_LIST = "/admin/cards"
_TEXTS = Texts._fields


class EditPage(FormPage):
    """`/admin/cards/edit`: the form for the selected cards; a POST since it takes as many as a list has."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}
    template = "edit.html"

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Redirect to the list: a bookmark or a change of language brings no cards."""
        see_other(response, safe_next(query_of(request).one("back") or _LIST))

    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> str | None:
        self.show(request, response, form)
        return None

    def values(self, _request: falcon.Request, form: Form) -> Values:
        """Return the texts of the fields: what was typed, or else what all the cards have in common."""
        lines = self.console.cards.find_all(_ids(form))
        common = {
            name: texts.pop() if len(texts) == 1 else None
            for name in _TEXTS
            for texts in [{getattr(line.card, name) for line in lines}]
        }
        return {
            "lines": lines,
            "typed": {name: form.one(name) if name in form.fields else common[name] or "" for name in _TEXTS},
            "chosen": form.all("change"),
            "max_text": MAX_TEXT,
            "back": safe_next(form.one("back") or _LIST),
            "confirm_cards": self.console.confirm_cards,
        }


class EditApplyPage(EditPage):
    """`/admin/cards/edit/apply`."""

    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> str | None:
        """Change the cards, all or none."""
        ids, console = _ids(form), self.console
        edits = CardEdits(console.database, visitor_of(request).actor, console.clock, self.limits(request))

        def act() -> dict[str, Any]:
            changes = {name: form.one(name) or None for name in _TEXTS if name in form.all("change")}
            return outcome_of(form, "edit", edits.apply(ids, changes))

        return self.once(request, response, form, act, asks_password=len(ids) > console.confirm_cards)


def _ids(form: Form) -> list[str]:
    """Return the selected cards."""
    try:
        return selected_ids(form, "id")
    except RefusedError as error:
        raise invalid_request(error.text) from error
