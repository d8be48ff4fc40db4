"""`/card`, the self-service page (客户自助): for customers, so not a `Page`, and without cookies, scripts or files."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import falcon
from markupsafe import Markup

from app import metrics
from app.console.forms import Form, read_form
from app.console.guard import headers, stranger
from app.console.page import Console
from app.domain.cards import MAX_KEY_LENGTH, masked, parse_card_id, plain
from app.domain.texts import Text
from app.http import problems
from app.http.languages import prefers_english
from app.http.request_parser import client_address
from app.http.self_service import problem_of
from app.services.self_service import Customer, SelfService

_FORM_BYTES = 4096
_STYLE = (
    "body{margin:0;font:1rem/1.6 system-ui,sans-serif;color:#212529;background:#fff}"
    "main{max-width:32rem;margin:0 auto;padding:1rem}h1{font-size:1.4rem;margin:0}h2{font-size:1.1rem;margin-top:2rem}"
    "header{display:flex;flex-wrap:wrap;gap:.5rem;justify-content:space-between;align-items:center}"
    "header a{padding:.5rem 0}label{display:block;margin-top:1rem}"
    "input,button{box-sizing:border-box;width:100%;min-height:2.75rem;padding:.5rem .75rem;font:inherit;"
    "border:1px solid #6c757d;border-radius:.4rem}input{background:#fff;color:#212529}"
    "button{margin-top:1rem;background:#0b5ed7;border-color:#0b5ed7;color:#fff;font-weight:600}"
    "button.back{background:none;border-color:#6c757d;color:inherit;font-weight:400}"
    "dl{display:grid;grid-template-columns:auto 1fr;gap:.25rem 1rem;margin:1rem 0}dt{color:#5c636a}dd{margin:0}"
    "a{color:#0b5ed7}dd,p{overflow-wrap:anywhere}.note{color:#5c636a;font-size:.9rem}"
    ".said{padding:.75rem 1rem;border:1px solid;border-radius:.4rem}.refused{color:#b02a37}.done{color:#146c43}"
    "@media(prefers-color-scheme:dark){body{color:#dee2e6;background:#212529}a{color:#6ea8fe}"
    "dt,.note{color:#adb5bd}input{background:#2b3035;color:#dee2e6}.refused{color:#ea868f}.done{color:#75b798}}"
)
_HEADERS = headers() | {
    "Content-Security-Policy": (
        "default-src 'none'; "
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
View = dict[str, Any]
"""The template's variables that depend on what the customer did."""


class OwnCardPage:
    """`/card`. The card's key is in the body of a POST, never in a URL; the field `do` names the step."""

    def __init__(self, console: Console, service: SelfService) -> None:
        self._console = console
        self._service = service

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        self._answer(request, response, request.get_param("lang") or "", "", lambda _customer: {})

    on_head = on_get

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Do what the form asks for, or show what it would do."""
        form, failure = Form(), None
        try:
            form = read_form(request, _FORM_BYTES)
            language, typed, wanted = form.one("lang"), form.one("card_id"), form.one("do")
        except problems.Problem as problem:
            language, typed, wanted, failure = "", "", "", problem

        def show(customer: Customer) -> View:
            if failure is not None:
                raise failure
            return self._view(customer, _checked(typed), wanted, form)

        self._answer(request, response, language, typed, show)

    def _answer(
        self,
        request: falcon.Request,
        response: falcon.Response,
        language: str,
        typed: str,
        show: Callable[[Customer], View],
    ) -> None:
        is_english = language == "en" or (
            language != "zh" and prefers_english(request.get_header("ACCEPT-LANGUAGE") or "")
        )
        request.context.visitor = replace(stranger(request), language="en" if is_english else "zh")
        view: View = {"standing": None, "step": "", "refusal": None, "contact": None}
        try:
            customer = self._service.enter(client_address(request, behind_proxy=self._console.behind_proxy))
            view["contact"] = customer.in_force.terms.contact
            view |= show(customer)
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
            "own_card.html",
            style=Markup(_STYLE),  # noqa: S704  # ours
            typed=typed[:MAX_KEY_LENGTH],
            shown=_shown(typed),
            offset=self._offset,
            **view,
        )

    def _offset(self, moment: datetime) -> str:
        """Return the offset of the vendor's time zone at a moment, for people."""
        return f"UTC{moment.astimezone(self._console.zone).isoformat()[-6:]}"

    def _view(self, customer: Customer, typed: str, wanted: str, form: Form) -> View:
        """Do the step that is wanted."""
        match wanted:
            case "unbind":
                standing = self._service.status(customer, typed)
                step = "unbind" if standing.is_bound else "look"
                return {"standing": standing, "step": step, "outcome": standing.unbinding()}
            case "unbind_now":
                return {"standing": self._service.unbind(customer, typed, form.one("mark")), "step": "unbound"}
            case "renew":
                second = _checked(form.one("with_card_id"))
                outcome = self._service.renewal(customer, typed, second)
                return {"outcome": outcome, "step": "renew", "second": second, "second_shown": _shown(second)}
            case "renew_now":
                second = _checked(form.one("with_card_id"))
                return {"standing": self._service.renew(customer, typed, second), "step": "renewed"}
            case _:
                return {"standing": self._service.status(customer, typed), "step": "look"}


def _shown(typed: str) -> str:
    """Return the beginning of a key as people see it, enough to tell two cards apart."""
    return masked(parse_card_id(typed) or plain(typed))


def _checked(typed: str) -> str:
    if not plain(typed) or len(typed) > MAX_KEY_LENGTH:
        raise problems.invalid_request(
            Text("请输入卡密（最多 64 个字符）。", "Enter the card's key, at most 64 characters.")
        )
    return typed
