"""Pages that issue cards and show what was issued, to copy and to download."""

from datetime import timedelta

import falcon

from app.console.exports import ExportPage
from app.console.form_page import is_confirmed, refuse
from app.console.forms import VALIDITY_PRESETS, Form, query_of, read_duration
from app.console.page import Access, Page, form_of, see_other, visitor_of
from app.console.rendering import url
from app.domain.texts import RefusedError, Text
from app.http.problems import invalid_request, not_found
from app.services.exports import ISSUED_COLUMNS, file_pieces, issued_documents
from app.services.filters import parse_time
from app.services.issuing import Issuing, PastIssue, issue_at, recent_issues

MAX_ISSUED = 10_000
_DEFAULT = "30d"
_RECENT = 10
_COUNT_DIGITS = 9
_FORMATS = ("csv", "txt")
_JUST_ISSUED = timedelta(hours=1)
_FIELDS = ("validity", "validity_other", "count", "batch", "note")


class IssuePage(Page):
    """`/admin/cards/issue`."""

    access = {"GET": Access.OPERATOR, "POST": Access.OPERATOR}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        self._show(request, response, query_of(request), None)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        form, is_large = form_of(request), self._is_large(form_of(request))
        issuing = Issuing(self.console.database, visitor_of(request).actor, self.console.clock, self.limits(request))

        def act() -> dict[str, str]:
            count, validity = _count(form.one("count")), read_duration(form, "validity", _DEFAULT)
            issued = issuing.issue(count, validity, form.one("batch") or None, form.one("note") or None)
            return {"location": url("/admin/cards/issued", at=issued.at.isoformat())}

        try:
            if is_large and not is_confirmed(self, request):
                self._show(request, response, form, None, is_large=True)
                return
            self.answer_idempotently(request, response, act)
        except RefusedError as error:
            refuse(response, error)
            self._show(request, response, form, error.text, is_large=is_large)

    def _is_large(self, form: Form) -> bool:
        """Return whether the form asks for so many cards that the visitor has to show who they are."""
        try:
            return _count(form.one("count")) > self.console.confirm_cards
        except RefusedError:
            return False

    def _show(
        self,
        request: falcon.Request,
        response: falcon.Response,
        form: Form,
        refusal: Text | None,
        *,
        is_large: bool = False,
    ) -> None:
        typed = {name: form.one(name) for name in _FIELDS}
        limits = self.limits(request)
        self.render(
            request,
            response,
            "issue.html",
            typed={**typed, "validity": typed["validity"] or _DEFAULT, "count": typed["count"] or "1"},
            durations=VALIDITY_PRESETS,
            most=MAX_ISSUED,
            refusal=refusal,
            is_large=is_large,
            confirm_cards=self.console.confirm_cards,
            ceilings=limits.ceilings(),
            issued_today=limits.issued_today(self.console.clock()),
            recent=recent_issues(self.console.database, visitor_of(request).seller, _RECENT),
        )


class IssuedPage(ExportPage):
    """`/admin/cards/issued?at=…`: what was issued at a moment; sellers see only what they issued themselves.

    More cards than `confirm_cards` are given without a password only to the operator who issued them, within an hour:
    a stolen session alone must not give away all earlier cards.
    """

    access = {"GET": Access.OPERATOR, "POST": Access.OPERATOR}
    what = "cards"
    back = "/admin/cards/issued"

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the cards, or send them as the file that `format` names."""
        query = query_of(request)
        issued = self._find(request, query.one("at"))
        output, is_open, at = query.one("format"), self._is_open(request, issued), issued.event.at.isoformat()
        if output not in _FORMATS:
            keys = [card.id for card in issued.cards[: None if is_open else self.console.confirm_cards]]
            self.render(request, response, "issued.html", event=issued.event, keys=keys, at=at, is_open=is_open)
            return
        if not is_open:
            see_other(response, url(self.back, at=at))
            return
        name = f"cards-{issued.event.at.astimezone(self.console.zone):%Y%m%d-%H%M%S}.{output}"
        pieces = file_pieces(output, issued_documents(issued.cards), ISSUED_COLUMNS)
        self.console.streams.send(response, pieces, output_format=output, name=name)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        query, form = query_of(request), form_of(request)
        issued, output = self._find(request, query.one("at") or form.one("at")), form.one("format")
        if output not in _FORMATS:
            raise invalid_request(Text("没有这种导出格式", "There is no such format."), "format")
        selection = {"at": issued.event.at.isoformat()}
        if self.confirm(request, response, output, selection):
            self.send(request, response, output, issued_documents(issued.cards), ISSUED_COLUMNS, selection)

    def _is_open(self, request: falcon.Request, issued: PastIssue) -> bool:
        """Return whether the visitor need not show again who they are."""
        age = self.console.clock() - issued.event.at
        is_just_issued = issued.event.actor == visitor_of(request).actor and age < _JUST_ISSUED
        return is_just_issued or len(issued.cards) <= self.console.confirm_cards

    def _find(self, request: falcon.Request, typed: str) -> PastIssue:
        try:
            at = parse_time("at", typed, self.console.zone)
        except RefusedError as error:
            raise invalid_request(error.text, "at") from error
        seller = visitor_of(request).seller
        issued = None if at is None else issue_at(self.console.database, at, seller, MAX_ISSUED)
        if issued is None:
            detail = Text("没有这次发卡，或不是您发的。", "Nothing was issued then, or not by you.")
            raise not_found(detail)
        return issued


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _COUNT_DIGITS and 1 <= int(text) <= MAX_ISSUED):
        raise RefusedError(
            f"数量必须是 1 到 {MAX_ISSUED}；更多请用 cardctl card issue",
            f"the count must be from 1 to {MAX_ISSUED}; for more use cardctl card issue",
        )
    return int(text)
