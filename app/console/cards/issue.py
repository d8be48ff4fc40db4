"""Pages that issue cards and show what was issued, to copy and to download."""

from datetime import timedelta
from typing import Any

import falcon

from app.console.cards.exports import Export, ExportPage
from app.console.form_page import FormPage
from app.console.forms import VALIDITY_PRESETS, Form, query_of, read_duration
from app.console.page import Access, Values, program_of, see_other, visitor_of
from app.console.rendering import url
from app.console.streaming import send
from app.domain.texts import RefusedError, Text
from app.http.problems import invalid_request, not_found
from app.services.cards.exports import ISSUED_COLUMNS, file_pieces, issued_documents
from app.services.cards.filters import parse_time
from app.services.cards.issuing import Issuing, issue_at, recent_issues
from app.services.operators.ceilings import ceilings_of

MAX_ISSUED = 10_000
_DEFAULT = "30d"
_RECENT = 10
_FORMATS = ("csv", "txt")
_JUST_ISSUED = timedelta(hours=1)
_FIELDS = ("validity", "validity_other", "count", "batch", "note", "program")


class IssuePage(FormPage):
    access = {"GET": Access.OPERATOR, "POST": Access.OPERATOR}
    template = "cards/issue.html"
    takes_query = True

    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> str | None:
        issuing = self.service(request, Issuing)

        def act() -> dict[str, str]:
            count, validity = _count(form), read_duration(form, "validity", _DEFAULT)
            batch, note = form.one("batch") or None, form.one("note") or None
            issued = issuing.issue(count, validity, batch, note, program_of(request, form))
            return {"location": url("/admin/cards/issued", at=issued.at.isoformat())}

        return self.once(request, response, form, act, asks_password=self._is_large(form))

    def values(self, request: falcon.Request, form: Form) -> Values:
        typed, limits = {name: form.one(name) for name in _FIELDS}, self.limits(request)
        return {
            "typed": {**typed, "validity": typed["validity"] or _DEFAULT, "count": typed["count"] or "1"},
            "durations": VALIDITY_PRESETS,
            "most": MAX_ISSUED,
            "is_large": request.method == "POST" and self._is_large(form),
            "confirm_cards": self.console.confirm_cards,
            "ceilings": ceilings_of(limits.owner),
            "issued_today": limits.issued_today(self.console.clock()),
            "recent": recent_issues(visitor_of(request).seller, _RECENT),
        }

    def _is_large(self, form: Form) -> bool:
        """Return whether the form asks for so many cards that the visitor has to show who they are."""
        try:
            return _count(form) > self.console.confirm_cards
        except RefusedError:
            return False


class IssuedPage(ExportPage):
    """`/admin/cards/issued?at=…`: what was issued at a moment; sellers see only what they issued themselves.

    More cards than `confirm_cards` are given without a password only to the operator who issued them, within an hour:
    a stolen session alone must not give away all earlier cards.
    """

    access = {"GET": Access.OPERATOR, "POST": Access.OPERATOR}
    what = "cards"
    leads_to = "/admin/cards/issued"

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        query = query_of(request)
        event, cards = self._find(request, query.one("at"))
        # Whether the visitor need not show again who they are.
        is_theirs = event.actor == visitor_of(request).actor and self.console.clock() - event.at < _JUST_ISSUED
        is_open = is_theirs or len(cards) <= self.console.confirm_cards
        output, at = query.one("format"), event.at.isoformat()
        if output not in _FORMATS:
            keys = [card.id for card in cards[: None if is_open else self.console.confirm_cards]]
            self.console.renderer.render(
                request, response, "cards/issued.html", event=event, keys=keys, at=at, is_open=is_open
            )
            return
        if not is_open:
            see_other(response, url(self.leads_to, at=at))
            return
        name = f"cards-{event.at.astimezone(self.console.zone):%Y%m%d-%H%M%S}.{output}"
        pieces = file_pieces(output, issued_documents(cards), ISSUED_COLUMNS)
        send(response, pieces, output_format=output, name=name)

    def export(self, request: falcon.Request, form: Form) -> Export:
        event, cards = self._find(request, query_of(request).one("at") or form.one("at"))
        output = form.one("format")
        if output not in _FORMATS:
            raise invalid_request(Text("没有这种导出格式", "There is no such format."), "format")
        return output, {"at": event.at.isoformat()}, issued_documents(cards), ISSUED_COLUMNS

    def _find(self, request: falcon.Request, typed: str) -> tuple[Any, list[Any]]:
        try:
            at = parse_time("at", typed, self.console.zone)
        except RefusedError as error:
            raise invalid_request(error.text, "at") from error
        seller = visitor_of(request).seller
        issued = None if at is None else issue_at(at, seller, MAX_ISSUED)
        if issued is None:
            detail = Text("没有这次发卡，或不是您发的。", "Nothing was issued then, or not by you.")
            raise not_found(detail)
        return issued


def _count(form: Form) -> int:
    count = form.number("count")
    if count is None or not 1 <= count <= MAX_ISSUED:
        raise RefusedError(
            f"数量必须是 1 到 {MAX_ISSUED}；更多请用 cardctl card issue",
            f"the count must be from 1 to {MAX_ISSUED}; for more use cardctl card issue",
        )
    return count
