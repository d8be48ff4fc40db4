"""Pages that change the selected cards: a preview or a form to confirm, the change itself, its result."""

from collections import Counter
from datetime import timedelta
from typing import Any

import falcon

from app.console.form_page import FormPage
from app.console.forms import DURATION_PRESETS, Form, query_of, read_duration, selected_ids
from app.console.guard import safe_next
from app.console.page import Access, Page, Values, see_other, visitor_of
from app.console.rendering import url
from app.domain.cards.card_actions import TEXTS, TIMED, Action
from app.domain.cards.cards import format_validity
from app.domain.texts import MAX_TEXT, RefusedError, Text
from app.http.problems import invalid_request, not_found
from app.services.cards.card_actions import ActionResult, CardActions

_DEFAULT = "30d"
_LIST = "/admin/cards"
_UNDO = {Action.FREEZE: Action.UNFREEZE, Action.UNFREEZE: Action.FREEZE}


class ConfirmPage(FormPage):
    """`/admin/cards/confirm`: a POST since it takes as many cards as a list has; it changes nothing."""

    access = {"GET": Access.OPERATOR, "POST": Access.OPERATOR}
    template = "confirm.html"
    leads_to = _LIST

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        self.check_may_change(request)
        super().on_get(request, response)

    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> str | None:
        self.show(request, response, form)
        return None

    def values(self, request: falcon.Request, form: Form) -> Values:
        # Cards that the preview left out come back: another duration may change them.
        action, ids = _read_form(form, "id", "skipped")
        self.check_may_change(request, action)
        by = preview = refusal = None
        try:
            by = _duration(form) if action in TIMED else None
            preview = self.service(request, CardActions, self.issuer(request)).preview(action, ids, by)
        except RefusedError as error:
            refusal = error.text
        outcomes = [outcome for _card, outcome in preview.changes] if preview else []
        return {
            "action": action,
            "ids": ids,
            "preview": preview,
            "before": Counter(str(outcome.status_before) for outcome in outcomes),
            "after": Counter(str(outcome.status_after) for outcome in outcomes),
            "revived_unbound": sum(outcome.revives_unbound for outcome in outcomes),
            "by": by,
            "choice": form.one("by") or _DEFAULT,
            "other": form.one("by_other"),
            "durations": DURATION_PRESETS,
            "back": safe_next(form.one("back") or _LIST),
            "confirm_cards": self.console.confirm_cards,
            "refusal": refusal,
        }


class ApplyPage(ConfirmPage):
    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> str | None:
        """Apply the action, all or none; where it is refused, or needs the password, show a new preview."""
        action, ids = _read_form(form, "id")
        self.check_may_change(request, action)

        def act() -> dict[str, Any]:
            by = _confirmed_duration(form) if action in TIMED else None
            result = self.service(request, CardActions, self.issuer(request)).apply(action, ids, by)
            return _outcome(form, action, result, by)

        return self.once(request, response, form, act, asks_password=len(ids) > self.console.confirm_cards)


class DonePage(Page):
    """`/admin/cards/done?form=…`: what a form that this operator sent has done."""

    access = {"GET": Access.OPERATOR}
    template = "done.html"

    def values(self, request: falcon.Request, form: Form) -> Values:
        self.check_may_change(request)
        outcome = self.kept_outcome(request, form.one("form"))
        if outcome is None or "action" not in outcome:
            detail = Text(
                "没有这次操作的结果：不是您做的，或已超过 7 天（请查看日志）。",
                "There is no result of this action: it is not yours, or older than 7 days (see the journal).",
            )
            raise not_found(detail)
        keys = self.console.cards.keys(visitor_of(request).who, outcome.get("changed", ()))
        back = safe_next(form.one("back") or _LIST)
        return {"outcome": outcome, "undo": _UNDO.get(outcome["action"]), "back": back, "card_keys": keys}


def _outcome(form: Form, action: str, result: ActionResult, by: timedelta | None = None) -> dict[str, Any]:
    back = safe_next(form.one("back") or _LIST)
    return {
        "location": url("/admin/cards/done", form=form.digest(), back=back),
        "action": action,
        "at": result.at.isoformat(),
        "by": None if by is None else format_validity(by),
        "changed": result.changed,
        "revived_unbound": result.revived_unbound,
    }


def _read_form(form: Form, *names: str) -> tuple[Action, list[str]]:
    action = form.one("action")
    if action not in set(Action):
        raise invalid_request(Text("没有这种操作", "There is no such action."), "action")
    return Action(action), selected_ids(form, *names)


def _duration(form: Form) -> timedelta:
    by = read_duration(form, "by", _DEFAULT)
    if by is None:
        raise RefusedError("请填写时长，不能是永久", "enter a duration: it cannot be permanent")
    return by


def _confirmed_duration(form: Form) -> timedelta:
    """Return the duration; refuse one that is not the duration of the preview."""
    by = _duration(form)
    if format_validity(by) != form.one("previewed"):
        raise RefusedError("时长改过了，请核对后再确认", "the duration was changed: check the preview, then confirm")
    return by


class EditPage(FormPage):
    """`/admin/cards/edit`: the form for the selected cards; a POST since it takes as many as a list has."""

    template = "cards/edit.html"

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Redirect to the list: a bookmark or a change of language brings no cards."""
        see_other(response, safe_next(query_of(request).one("back") or _LIST))

    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> str | None:
        self.show(request, response, form)
        return None

    def values(self, _request: falcon.Request, form: Form) -> Values:
        """Return the texts of the fields: what was typed, or else what all the cards have in common."""
        cards = self.console.cards.find_all(selected_ids(form, "id"))
        common = {
            name: texts.pop() if len(texts) == 1 else None
            for name in TEXTS
            for texts in [{getattr(card, name) for card in cards}]
        }
        return {
            "cards": cards,
            "typed": {name: form.one(name) if name in form.fields else common[name] or "" for name in TEXTS},
            "chosen": form.all("change"),
            "max_text": MAX_TEXT,
            "back": safe_next(form.one("back") or _LIST),
            "confirm_cards": self.console.confirm_cards,
        }


class EditApplyPage(EditPage):
    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> str | None:
        ids, actions = selected_ids(form, "id"), self.service(request, CardActions)

        def act() -> dict[str, Any]:
            changes = {name: form.one(name) or None for name in TEXTS if name in form.all("change")}
            return _outcome(form, "edit", actions.edit(ids, changes))

        return self.once(request, response, form, act, asks_password=len(ids) > self.console.confirm_cards)
