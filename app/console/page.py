"""The base of the console's pages: who may see them, what they work with, how they answer."""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, ClassVar, TypeVar

import falcon

from app.console.forms import Form, query_of
from app.console.rendering import Renderer
from app.console.static_files import StaticFiles
from app.console.visitor import SessionCookie, Visitor
from app.domain.cards.card_actions import SELLERS_ACTIONS, Action
from app.domain.programs import MAIN
from app.domain.texts import RefusedError, Text
from app.http.problems import forbidden
from app.runtime.clock import Clock
from app.services.cards.card_lists import CardLists
from app.services.operators.ceilings import OwnerLimits
from app.services.operators.operators import Operators
from app.services.operators.sessions import Sessions
from app.services.operators.two_step import TwoStep
from app.services.paging import PAGE_ROWS, PageRequest
from app.services.shop.idempotency import Document, Idempotency, Owner
from app.services.system.connection import Database
from app.services.system.system_status import SystemStatus
from app.tokens.sealing_key import SealingKey

FORM_BYTES = 256 * 1024
OUT_OF_DATE = Text("页面已过期，请返回刷新后重试。", "The page is out of date: go back, reload it and try again.")


Service = TypeVar("Service")
Values = dict[str, Any]
"""A template's variables."""


class Access(IntEnum):
    """Who may use a page: anybody, any operator, owners only."""

    PUBLIC = 0
    OPERATOR = 1
    OWNER = 2


class Console:
    """The services and settings that pages work with; one for all threads."""

    def __init__(self, status: SystemStatus, sealing_key: SealingKey) -> None:
        settings = status.settings
        self.system_status, self.sealing_key = status, sealing_key
        self.database, self.clock, self.zone = status.database, status.clock, settings.timezone
        self.static = StaticFiles()
        self.renderer = Renderer(self.static, self.zone, self.clock)
        self.sessions = Sessions(self.database, self.clock, sealing_key)
        self.cards = CardLists(self.clock)
        self.behind_proxy = settings.behind_proxy
        self.session_cookie = SessionCookie(behind_proxy=settings.behind_proxy)
        self.owners_need_totp = settings.owners_need_totp
        self.confirm_cards = settings.confirm_cards  # an issue of more asks for the operator's own password


class Page:
    """A resource of the console. `app.console.guard` checks its `access` before a method is called.

    A GET changes nothing but what is noted of its reader. A POST that succeeds answers with a redirect, so that a
    reload repeats nothing; only one that shows a secret for the only time answers with a page.
    """

    access: ClassVar[Mapping[str, Access]] = {"GET": Access.OWNER}
    """By method; other methods are refused. Owners alone, unless a page says otherwise."""
    template: ClassVar[str]
    """What `show` answers with."""
    body_bytes: ClassVar[int] = FORM_BYTES
    takes_files: ClassVar[bool] = False
    """Whether its form has files: only such a page reads multipart bodies."""
    without_totp: ClassVar[bool] = False
    """Whether an owner may use it who has yet to set up two-step verification (KADUN_OWNERS_NEED_TOTP)."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def values(self, _request: falcon.Request, _form: Form) -> Values:
        """Return the template's variables for a GET's query or a POST's form; with a `refusal` the answer is 400."""
        return {}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        self.show(request, response, query_of(request))

    def show(self, request: falcon.Request, response: falcon.Response, form: Form, **more: Any) -> None:  # noqa: ANN401  # the template's variables
        """Answer with the page for this query or form; `more` replaces and extends its values."""
        done = query_of(request).exactly("done")
        shown = {"refusal": None, "refusals": {}, "done": done, **self.values(request, form), **more}
        if shown["refusal"] is not None:
            response.status = falcon.HTTP_400
        self.console.renderer.render(request, response, self.template, **shown)

    def kept_outcome(self, request: falcon.Request, form_sha256: str) -> Document | None:
        """Return the outcome of a form that this visitor sent; None when it is unknown, or too old."""
        return Idempotency(self.console.database, self.console.clock).find(owner_of(request), form_sha256)

    def limits(self, request: falcon.Request) -> OwnerLimits:
        return OwnerLimits(owner_of(request), self.console.zone)

    def service(self, request: falcon.Request, kind: Callable[..., Service], *more: Owner | None) -> Service:
        """Return a service in the visitor's name, within their ceilings; the `issuer` keeps sellers to their cards."""
        return kind(self.console.database, visitor_of(request).actor, self.console.clock, self.limits(request), *more)

    def issuer(self, request: falcon.Request) -> Owner | None:
        """Return the seller whose own cards alone they may change; None for an owner."""
        return None if visitor_of(request).is_owner else owner_of(request)

    def may_change(self, request: falcon.Request, card: Any = None) -> bool:  # noqa: ANN401  # a row
        """Whether the visitor may change cards, or this one: an owner, or a seller whom an owner allows to."""
        issuer = self.issuer(request)
        if issuer is None:
            return True
        return (card is None or issuer.issued(card)) and self.limits(request).changes_allowed() > 0

    def possible_actions(self, request: falcon.Request, card: Any) -> list[Action]:  # noqa: ANN401  # as above
        """Return the actions that would change a card, of those that the visitor may do."""
        possible = self.console.cards.possible_actions(card)
        if visitor_of(request).is_owner:
            return possible
        allowed = SELLERS_ACTIONS if self.may_change(request, card) else frozenset()
        return [action for action in possible if action in allowed]

    def check_may_change(self, request: falcon.Request, action: Action | None = None) -> None:
        """Refuse a seller who may change no cards, or any action but `SELLERS_ACTIONS`; None is a move."""
        is_theirs = action is None or action in SELLERS_ACTIONS
        if not self.may_change(request) or not (visitor_of(request).is_owner or is_theirs):
            raise forbidden(Text("您没有改动卡密的权限。", "You may not change cards."))

    def acting(self, request: falcon.Request, kind: Callable[[Database, str, Clock], Service]) -> Service:
        """Return a service in the visitor's name, which knows no ceilings."""
        return kind(self.console.database, visitor_of(request).actor, self.console.clock)

    def two_step(self, request: falcon.Request) -> TwoStep:
        return TwoStep(self.acting(request, Operators), self.console.sealing_key)


def owner_of(request: falcon.Request) -> Owner:
    """Return whose cards, ceilings and forms the visitor's are."""
    return Owner(operator_id=visitor_of(request).who.id)


def visitor_of(request: falcon.Request) -> Visitor:
    visitor: Visitor = request.context.visitor
    return visitor


def program_of(request: falcon.Request, form: Form) -> str:
    """Return the program that a form names, `main` where there is no other; refuse one that names none."""
    typed, known = form.one("program"), visitor_of(request).programs or {MAIN: ""}
    if typed in known or (not typed and len(known) == 1):
        return typed or MAIN
    raise RefusedError("请选择程序", "choose a program")


def page_request(query: Form, size: int = PAGE_ROWS) -> PageRequest:
    """Return the page of a list that a query asks for."""
    return PageRequest(query.one("before"), query.one("after"), size)


def see_other(response: falcon.Response, location: str) -> None:
    response.status = falcon.HTTP_303
    response.set_header("Location", location)


def lead_to(request: falcon.Request, response: falcon.Response, location: str) -> None:
    """Redirect the browser to another page than a part of this one, which htmx may have asked for."""
    if request.get_header("HX-Request"):
        # htmx would follow a redirect itself and put that page into the middle of this one.
        response.status = falcon.HTTP_204
        response.set_header("HX-Redirect", location)
    else:
        see_other(response, location)
