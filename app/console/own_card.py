"""`/card`, the self-service page (客户自助): for customers, so not a `Page`, and without cookies, scripts or files."""

from dataclasses import replace
from datetime import datetime

import falcon

from app.console.forms import Form, read_form
from app.console.guard import headers, visitor_from
from app.console.page import Console, Values
from app.console.rendering import style_source
from app.domain.cards.cards import MAX_KEY_LENGTH, masked, parse_card_id, plain
from app.domain.programs import MAIN
from app.domain.texts import Text
from app.http import problems
from app.http.customer_messages import prefers_english
from app.http.request_parser import client_address
from app.http.self_service import problem_of
from app.runtime import metrics
from app.services.self_service import Customer, SelfService

_FORM_BYTES = 4096
_HEADERS = headers() | {
    "Content-Security-Policy": (
        "default-src 'none'; "
        f"style-src {style_source('selfservice/own_card.css')}; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}


class OwnCardPage:
    """`/card`. The card's key is in the body of a POST, never in a URL; the field `do` names the step."""

    def __init__(self, console: Console, service: SelfService) -> None:
        self._console = console
        self._service = service

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        self._answer(request, response, Form({"lang": [request.get_param("lang") or ""]}))

    on_head = on_get

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        form, failure = Form(), None
        try:
            form = read_form(request, _FORM_BYTES)
        except problems.Problem as problem:
            failure = problem
        self._answer(request, response, form, failure)

    def _answer(
        self, request: falcon.Request, response: falcon.Response, form: Form, failure: Exception | None = None
    ) -> None:
        language, typed = form.exactly("lang"), form.exactly("card_id").strip()
        is_english = language == "en" or (
            language != "zh" and prefers_english(request.get_header("ACCEPT-LANGUAGE") or "")
        )
        request.context.visitor = replace(visitor_from(request), language="en" if is_english else "zh")
        view: Values = {"own": None, "step": "", "refusal": None, "contact": None}
        try:
            customer = self._service.enter(client_address(request, behind_proxy=self._console.behind_proxy))
            if len(customer.rules.programs) == 1:  # else it is known once the card was read
                view["contact"] = customer.rules.of(MAIN).terms.contact
            if request.method == "POST":
                view |= self._view(customer, form, failure)
                card = view["outcome"].before if view["own"] is None else view["own"].card
                view["contact"] = customer.rules.of(card.program).terms.contact
        except Exception as error:  # noqa: BLE001  # unexpected ones too: logged, and answered with a page
            problem = problem_of(request, error, self._service)
            metrics.problems.labels(problem.code).inc()
            response.status = problem.status
            response.set_headers(problem.headers)
            view["refusal"] = problem.detail
        response.set_headers(_HEADERS)
        self._console.renderer.render(
            request,
            response,
            "selfservice/own_card.html",
            typed=typed[:MAX_KEY_LENGTH],
            shown=_shown(typed),
            offset=self._offset,
            **view,
        )

    def _offset(self, moment: datetime) -> str:
        """Return the offset of the vendor's time zone at a moment, for people."""
        return f"UTC{moment.astimezone(self._console.zone).isoformat()[-6:]}"

    def _view(self, customer: Customer, form: Form, failure: Exception | None) -> Values:
        if failure is not None:
            raise failure
        typed = _checked(form.exactly("card_id").strip())
        match form.exactly("do"):
            case "unbind":
                own = self._service.status(customer, typed)
                step = "unbind" if own.is_bound else "look"
                return {"own": own, "step": step, "outcome": own.unbinding()}
            case "unbind_now":
                return {"own": self._service.unbind(customer, typed, form.one("mark")), "step": "unbound"}
            case "renew":
                second = _checked(form.one("with_card_id"))
                outcome = self._service.renewal(customer, typed, second)
                return {"outcome": outcome, "step": "renew", "second": second, "second_shown": _shown(second)}
            case "renew_now":
                second = _checked(form.one("with_card_id"))
                return {"own": self._service.renew(customer, typed, second), "step": "renewed"}
            case _:
                return {"own": self._service.status(customer, typed), "step": "look"}


def _shown(typed: str) -> str:
    """Return the beginning of a key as people see it, enough to tell two cards apart."""
    return masked(parse_card_id(typed) or plain(typed))


def _checked(typed: str) -> str:
    if not plain(typed) or len(typed) > MAX_KEY_LENGTH:
        raise problems.invalid_request(
            Text("请输入卡密（最多 64 个字符）。", "Enter the card's key, at most 64 characters.")
        )
    return typed
