"""Pages with a form: shown, carried out, or shown again with what was typed and why it was refused."""

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import ClassVar

import falcon

from app.console.forms import OWN_CODE, OWN_PASSWORD, Form, query_of
from app.console.page import OUT_OF_DATE, Access, Page, owner_of, see_other, visitor_of
from app.console.rendering import FORM_NUMBER_FIELD
from app.domain.texts import LaterError, RefusedError
from app.http.problems import invalid_request
from app.http.request_parser import client_address
from app.services.operators.sessions import LoginRefusedError, WantsCodeError
from app.services.shop.idempotency import Document, Idempotency, Request


class FormPage(Page):
    """A page with a form. GET shows it, POST does what it asks for (`change`)."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}
    name: str = ""
    """Of the form, on a page that has several: the key of its refusal."""
    leads_to: ClassVar[str] = ""
    """The page that a GET leads to where the form is a part of another page: a reload asks for this address."""
    takes_query: ClassVar[bool] = False
    """Whether a GET fills in the form from the query: never what a stranger's link must not choose."""
    refused_status: ClassVar[str] = falcon.HTTP_400

    def change(self, _request: falcon.Request, _response: falcon.Response, _form: Form) -> str | None:
        """Do what the form asks for and return the address to go on to; None where this has answered the request.

        Where it raises a `RefusedError` the form is shown again. A page without a change takes no POST.
        """
        raise falcon.HTTPMethodNotAllowed([*self.access])

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        if self.leads_to:
            see_other(response, self.leads_to)
        else:
            self.show(request, response, query_of(request) if self.takes_query else Form())

    def on_post(self, request: falcon.Request, response: falcon.Response, form: Form) -> None:
        """Do what the form says, which the guard has read to check its token."""
        try:
            onward = self.change(request, response, form)
        except RefusedError as error:
            self.show(request, response, form, refusal=error.text, refusals={self.name: error.text})
            response.status = self.refused_status
            if isinstance(error, LaterError):
                response.status = falcon.HTTP_429
                response.set_header("Retry-After", str(error.retry_after))
        else:
            if onward is not None:
                see_other(response, onward)

    def once(
        self,
        request: falcon.Request,
        response: falcon.Response,
        form: Form,
        act: Callable[[], Document],
        *,
        asks_password: bool = False,
    ) -> str | None:
        """Do what a form asks for, however often it is sent; return the `location` of the outcome.

        `act` does it and returns the outcome, which is kept (`kept_outcome`). One that asks for the visitor's own
        password is shown again where it is missing; sent again, it asks for no other proof: a code works once.
        """
        if asks_password and self.is_first(request, form):
            if not form.exactly(OWN_PASSWORD):
                self.show(request, response, form)
                return None
            self.check_own_password(request, form)
        if not form.one(FORM_NUMBER_FIELD):
            raise invalid_request(OUT_OF_DATE, FORM_NUMBER_FIELD)
        asked = Request(owner_of(request), form.digest(), form.digest(), int(HTTPStatus.SEE_OTHER))
        answer = Idempotency(self.console.database, self.console.clock).run(asked, act)
        location: str = json.loads(answer.body)["location"]
        return location

    def is_first(self, request: falcon.Request, form: Form) -> bool:
        """Return whether this form, which takes effect once, has not taken effect yet."""
        return self.kept_outcome(request, form.digest()) is None

    def check_own_password(self, request: falcon.Request, form: Form) -> None:
        """Check the visitor's own password in a form, and the code of their second factor if they have one."""
        identity, sessions = visitor_of(request).who, self.console.sessions
        address = client_address(request, behind_proxy=self.console.behind_proxy)
        try:
            sessions.confirm(identity, form.exactly(OWN_PASSWORD), form.one(OWN_CODE) or None, address=address)
        except WantsCodeError:
            raise
        except LoginRefusedError as error:
            if identity.has_totp:
                raise RefusedError(
                    "密码或验证码不正确；每个验证码只能用一次", "wrong password or code; each code works once"
                ) from error
            raise RefusedError("您的密码不正确", "your own password is wrong") from error


def new_password(form: Form) -> str:
    password = form.exactly("new_password")
    if password != form.exactly("new_password_again"):
        raise RefusedError("两次输入的新密码不一致", "the new password was typed differently the second time")
    return password
