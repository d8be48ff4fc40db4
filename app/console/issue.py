"""New cards, and what was issued at a moment: to copy, to download."""

from datetime import datetime, timedelta
from typing import NamedTuple

import falcon

from app.console.duration_field import DURATION_PRESETS, read_duration
from app.console.forms import Form, query_of
from app.console.key_masking import seller_of
from app.console.page import Access, Page, form_of, see_other, visitor_of
from app.console.rendering import url
from app.console.streaming import CSV, TEXT, file_name, with_bom
from app.console.times import Noted, parse_time
from app.domain.codes import EventKind
from app.domain.texts import RefusedError, Text
from app.http.problems import Problem, ProblemCode, invalid_request
from app.services.exports import ISSUED_COLUMNS, csv_lines, issued_documents
from app.services.issuing import Issuing
from app.storage import cards as card_rows
from app.storage import journal_lists
from app.storage.cards import NewCard
from app.storage.journal_lists import JournalFilter
from app.storage.key_masking import Seller
from app.storage.models import Event

MOST_ISSUED = 10_000
_DEFAULT = "30d"
_RECENT = 10
_COUNT_DIGITS = 9
_FIELDS = ("validity", "validity_other", "count", "batch", "note")


class IssuePage(Page):
    """`/admin/cards/issue`."""

    access = {"GET": Access.OPERATOR, "POST": Access.OPERATOR}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the form, filled in as the query says."""
        self._show(request, response, query_of(request), None)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Issue cards."""
        form, noted = form_of(request), Noted(self.console.clock)
        issuing = Issuing(self.console.database, visitor_of(request).actor, noted)

        def act() -> str:
            count, validity = _count(form.one("count")), read_duration(form, "validity", _DEFAULT)
            issuing.issue(count, validity, form.one("batch") or None, form.one("note") or None)
            return url("/admin/cards/issued", at=noted.at.isoformat())

        try:
            see_other(response, self.once(request, act))
        except RefusedError as error:
            response.status = falcon.HTTP_400
            self._show(request, response, form, error.text)

    def _show(self, request: falcon.Request, response: falcon.Response, form: Form, refusal: Text | None) -> None:
        recent = self.console.database.with_connection(lambda: _recent(seller_of(visitor_of(request))))
        typed = {name: form.one(name) for name in _FIELDS}
        self.render(
            request,
            response,
            "issue.html",
            typed={**typed, "validity": typed["validity"] or _DEFAULT, "count": typed["count"] or "1"},
            durations=DURATION_PRESETS,
            most=MOST_ISSUED,
            refusal=refusal,
            recent=recent,
        )


class Issued(NamedTuple):
    """An entry of the journal, and those of its cards that are still there."""

    event: Event
    cards: list[NewCard]


class IssuedPage(Page):
    """`/admin/cards/issued?at=…`: what was issued then; a seller sees only what they issued themselves."""

    access = {"GET": Access.OPERATOR}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the cards, or send them as the file that `format` names."""
        query = query_of(request)
        try:
            at = parse_time(query.one("at"), self.console.zone)
        except RefusedError as error:
            raise invalid_request(error.text, "at") from error
        seller = seller_of(visitor_of(request))
        issued = None if at is None else self.console.database.with_connection(lambda: _issued(at, seller))
        if issued is None:
            detail = Text("没有这次发卡，或不是您发的。", "Nothing was issued then, or not by you.")
            raise Problem(falcon.HTTP_404, ProblemCode.NOT_FOUND, detail)
        output = query.one("format")
        if output in {"csv", "txt"}:
            name = file_name("cards", issued.event.at, self.console.zone, output)
            response.content_type = TEXT if output == "txt" else CSV
            response.set_header("Content-Disposition", f'attachment; filename="{name}"')
            response.text = _file(issued.cards, output)
            return
        self.render(
            request,
            response,
            "issued.html",
            event=issued.event,
            keys=[card.id for card in issued.cards],
            at=issued.event.at.isoformat(),
        )


def _recent(seller: Seller | None) -> list[Event]:
    """Return what was issued by hand; for a seller, by theirs."""
    if seller is None:
        return journal_lists.issued_by_hand(_RECENT)
    own = JournalFilter(kind=EventKind.ISSUED, actor=seller.actor, since=seller.since)
    return journal_lists.page(own, limit=_RECENT)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _COUNT_DIGITS and 1 <= int(text) <= MOST_ISSUED):
        raise RefusedError(
            f"数量必须是 1 到 {MOST_ISSUED}；更多请用 cardctl card issue",
            f"the count must be from 1 to {MOST_ISSUED}; more by cardctl card issue",
        )
    return int(text)


def _issued(at: datetime, seller: Seller | None) -> Issued | None:
    if seller is not None and at < seller.since:
        return None
    actor = None if seller is None else seller.actor
    moment = JournalFilter(kind=EventKind.ISSUED, actor=actor, since=at, until=at + timedelta(microseconds=1))
    events = journal_lists.page(moment, limit=1)
    if not events:
        return None
    return Issued(events[0], card_rows.issued_at(at, (events[0].details or {}).get("batch"), MOST_ISSUED))


def _file(cards: list[NewCard], output: str) -> str:
    if output == "txt":
        return "".join(f"{card.id}\n" for card in cards)
    return "".join(with_bom(csv_lines(issued_documents(cards), ISSUED_COLUMNS)))
