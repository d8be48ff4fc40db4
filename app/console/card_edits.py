"""Pages that change the batch and the note of one card or many."""

from typing import Any

import falcon

from app.console.form_page import is_confirmed, refuse
from app.console.forms import Form, query_of, selected_ids
from app.console.guard import safe_next
from app.console.page import Access, Page, form_of, see_other, visitor_of
from app.console.rendering import url
from app.domain.card_edits import Texts
from app.domain.texts import MAX_TEXT, RefusedError
from app.http.problems import invalid_request
from app.services.card_edits import CardEdits

_LIST = "/admin/cards"
_TEXTS = Texts._fields


class EditPage(Page):
    """`/admin/cards/edit`: the form for the selected cards; a POST since it takes as many as a list has."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Redirect to the list: a bookmark or a change of language brings no cards."""
        see_other(response, safe_next(query_of(request).one("back") or _LIST))

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        self.show(request, response)

    def show(self, request: falcon.Request, response: falcon.Response, refused: RefusedError | None = None) -> None:
        """Show the form, filled in with what all the cards have in common; `refused` is why it was refused just now."""
        form = form_of(request)
        lines = self.console.cards.find_all(_ids(form))
        if refused is not None:
            refuse(response, refused)
        common = {
            name: texts.pop() if len(texts) == 1 else None
            for name in _TEXTS
            for texts in [{getattr(line.card, name) for line in lines}]
        }
        typed = {name: form.one(name) if name in form.fields else common[name] or "" for name in _TEXTS}
        self.render(
            request,
            response,
            "edit.html",
            lines=lines,
            typed=typed,
            chosen=form.all("change"),
            max_text=MAX_TEXT,
            back=safe_next(form.one("back") or _LIST),
            confirm_cards=self.console.confirm_cards,
            refusal=None if refused is None else refused.text,
        )


class EditApplyPage(EditPage):
    """`/admin/cards/edit/apply`."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Change the cards, all or none; where it is refused, or needs the password, show the form again."""
        form = form_of(request)
        ids, back = _ids(form), safe_next(form.one("back") or _LIST)
        limits, console = self.limits(request), self.console
        edits = CardEdits(console.database, visitor_of(request).actor, console.clock, limits)

        def act() -> dict[str, Any]:
            changes = {name: form.one(name) or None for name in _TEXTS if name in form.all("change")}
            result = edits.apply(ids, changes)
            return {
                "location": url("/admin/cards/done", form=form.digest(), back=back),
                "action": "edit",
                "at": result.at.isoformat(),
                "by": None,
                "changed": result.changed,
                "revived_unbound": (),
            }

        try:
            if len(ids) > console.confirm_cards and not is_confirmed(self, request):
                self.show(request, response)
                return
            self.answer_idempotently(request, response, act)
        except RefusedError as error:
            self.show(request, response, error)


def _ids(form: Form) -> list[str]:
    """Return the selected cards."""
    try:
        return selected_ids(form, "id")
    except RefusedError as error:
        raise invalid_request(error.text) from error
