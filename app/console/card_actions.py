"""What owners do to cards, one or many: told first, then done, then shown as the journal has it."""

from datetime import datetime, timedelta

import falcon

from app.console.duration_field import DURATION_PRESETS, read_duration
from app.console.forms import Form, query_of
from app.console.guard import safe_next
from app.console.page import Access, Page, form_of, see_other, visitor_of
from app.console.rendering import url
from app.console.selection import MAX_SELECTED, selected_ids
from app.console.times import Noted, parse_time
from app.domain.cards import format_validity
from app.domain.codes import CardStatus, EventKind
from app.domain.texts import RefusedError, Text
from app.http.problems import invalid_request
from app.services.card_actions import CardActions
from app.services.forecast import Action, forecast
from app.storage import cards as card_rows
from app.storage import journal_lists
from app.storage.journal_lists import JournalFilter
from app.storage.models import Event

_DEFAULT = "30d"
_LIST = "/admin/cards"
_LEFT_OUT = "left_out"
"""The field with the cards that were chosen, and that the action as it was told does not change."""
_ACTIONS = {
    EventKind.FROZEN: Action.FREEZE,
    EventKind.UNFROZEN: Action.UNFREEZE,
    EventKind.UNBOUND: Action.UNBIND,
    EventKind.EXTENDED: Action.EXTEND,
    EventKind.DELETED: Action.DELETE,
}
_UNDO = {Action.FREEZE: Action.UNFREEZE, Action.UNFREEZE: Action.FREEZE}


class ConfirmPage(Page):
    """`/admin/cards/confirm`: a POST since it takes as many cards as a list has; it changes nothing."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Go back to the list: an address that was kept, or the other language, brings no cards."""
        see_other(response, _LIST)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Tell what an action would do to these very cards."""
        self.confirm(request, response)

    def confirm(self, request: falcon.Request, response: falcon.Response, refused: RefusedError | None = None) -> None:
        """Show the form that does it; `refused` is why it was not done just now."""
        form = form_of(request)
        action, ids = _asked(form, "id", _LEFT_OUT)
        by = None
        if action is Action.EXTEND:
            try:
                by = _duration(form)
            except RefusedError as error:
                refused = error
        if refused is not None:
            response.status = falcon.HTTP_400
        rows = self.console.database.with_connection(lambda: card_rows.find_all(ids))
        here = {card.id for card, _client in rows}
        self.render(
            request,
            response,
            "confirm.html",
            told=forecast(action, rows, self.console.clock(), by),
            missing=[card_id for card_id in ids if card_id not in here],
            by=by,
            choice=form.one("by") or _DEFAULT,
            other=form.one("by_other"),
            durations=DURATION_PRESETS,
            back=safe_next(form.one("back") or _LIST),
            refusal=None if refused is None else refused.text,
        )


class ApplyPage(ConfirmPage):
    """`/admin/cards/apply`."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Do it, all or nothing; where it cannot be done, tell anew what could."""
        form = form_of(request)
        action, ids = _asked(form, "id")
        noted = Noted(self.console.clock)
        card_actions = CardActions(self.console.database, visitor_of(request).actor, noted)

        def act() -> str:
            _act(card_actions, action, ids, form)
            return url("/admin/cards/done", at=noted.at.isoformat(), back=safe_next(form.one("back") or _LIST))

        try:
            see_other(response, self.once(request, act))
        except RefusedError as error:
            self.confirm(request, response, error)


class DonePage(Page):
    """`/admin/cards/done?at=…`: what this operator did at that moment."""

    access = {"GET": Access.OWNER}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show it, from the journal."""
        query, actor = query_of(request), visitor_of(request).actor
        try:
            at = parse_time(query.one("at"), self.console.zone)
        except RefusedError as error:
            raise invalid_request(error.text, "at") from error
        entries = [] if at is None else self.console.database.with_connection(lambda: _entries(actor, at))
        action = _ACTIONS.get(EventKind(entries[0].kind)) if entries else None
        ids = [entry.card_id for entry in entries if entry.card_id is not None]
        rows = self.console.database.with_connection(lambda: card_rows.find_all(ids)) if ids else []
        now = self.console.clock()
        self.render(
            request,
            response,
            "done.html",
            entries=entries,
            action=action,
            ids=ids,
            # Live without a machine: what an operator who has just revived a card must know (protocol, section 2).
            unbound=[
                card.id
                for card, client in rows
                if action in {Action.UNFREEZE, Action.EXTEND}
                and client is None
                and card_rows.as_domain(card).status(now) is CardStatus.ACTIVE
            ],
            undo=_UNDO.get(action) if action else None,
            back=safe_next(query.one("back") or _LIST),
        )


def _asked(form: Form, *names: str) -> tuple[Action, list[str]]:
    """Return the action, and the cards that the fields of these names have.

    Raises:
        Problem: 400, there is no such action, or no card.
    """
    action = form.one("action")
    if action not in set(Action):
        raise invalid_request(Text("没有这种操作", "There is no such action."), "action")
    try:
        return Action(action), selected_ids(form, *names)
    except RefusedError as error:
        raise invalid_request(error.text) from error


def _duration(form: Form) -> timedelta:
    by = read_duration(form, "by", _DEFAULT)
    if by is None:
        raise RefusedError("延期须有时长，不能是永久", "an extension has a length: it cannot be permanent")
    return by


def _act(card_actions: CardActions, action: Action, ids: list[str], form: Form) -> None:
    match action:
        case Action.FREEZE:
            card_actions.freeze(ids)
        case Action.UNFREEZE:
            card_actions.unfreeze(ids)
        case Action.UNBIND:
            card_actions.unbind(ids)
        case Action.EXTEND:
            by = _duration(form)
            if format_validity(by) != form.one("told"):
                raise RefusedError("时长改过了，请核对后再确认", "the length was changed: look at it, then confirm")
            card_actions.extend(ids, by)
        case Action.DELETE:
            card_actions.delete(ids)


def _entries(actor: str, at: datetime) -> list[Event]:
    wanted = JournalFilter(actor=actor, since=at, until=at + timedelta(microseconds=1))
    return journal_lists.page(wanted, limit=MAX_SELECTED)
