"""Pages with a form that is shown again, with the reason, if it is refused; and the passwords in such forms."""

from abc import abstractmethod
from typing import ClassVar

import falcon

from app.console.forms import OWN_CODE, OWN_PASSWORD, Form
from app.console.page import Console, Page, form_of, see_other, visitor_of
from app.console.rendering import url
from app.domain.texts import RefusedError, Text
from app.http.request_parser import client_address
from app.services.credentials import LoginRefusedError, LoginThrottledError, WantsCodeError
from app.services.passwords import LoginBusyError


class FormPage(Page):
    """The address of one form on a page that has several."""

    name: str
    """Of the form: it stands in `done=` after the redirect, and is the key of the refusal."""
    after: ClassVar[str]
    """The page that a GET and a successful POST lead to."""

    @abstractmethod
    def change(self, request: falcon.Request, response: falcon.Response) -> None:
        """Do what the form asks for."""

    @abstractmethod
    def show(self, request: falcon.Request, response: falcon.Response, refusals: dict[str, Text]) -> None:
        """Show the page with the forms; `refusals` are by the form's name."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Lead to the page: a reload of a refused form, or a change of the language, asks for this address."""
        see_other(response, self.after)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Do it, or show the page again with the reason."""
        try:
            self.change(request, response)
        except RefusedError as error:
            refuse(response, error)
            self.show(request, response, {self.name: error.text})
            return
        see_other(response, url(self.after, done=self.name))


def new_password(form: Form) -> str:
    """Return the new password of a form."""
    password = form.exactly("new_password")
    if password != form.exactly("new_password_again"):
        raise RefusedError("两次输入的新密码不一致", "the new password was typed differently the second time")
    return password


def check_own_password(console: Console, request: falcon.Request) -> None:
    """Check the visitor's own password in a form, and the code of their second factor if they have one."""
    identity, form = visitor_of(request).who, form_of(request)
    address = client_address(request, behind_proxy=console.behind_proxy)
    try:
        console.sessions.confirm(identity, form.exactly(OWN_PASSWORD), form.one(OWN_CODE) or None, address=address)
    except WantsCodeError:
        raise
    except LoginRefusedError as error:
        if identity.has_totp:
            raise RefusedError(
                "密码或验证码不正确；每个验证码只能用一次", "wrong password or code; each code works once"
            ) from error
        raise RefusedError("您的密码不正确", "your own password is wrong") from error


def is_first(page: Page, request: falcon.Request) -> bool:
    """Return whether this form, which takes effect once, has not taken effect yet.

    Sent again it leads to what it did, without another proof: a code works once.
    """
    return page.kept_outcome(request, form_of(request).digest()) is None


def is_confirmed(page: Page, request: falcon.Request) -> bool:
    """Check the visitor's own password, unless this form has taken effect already; return False where it is missing."""
    if not is_first(page, request):
        return True
    if not form_of(request).exactly(OWN_PASSWORD):
        return False
    check_own_password(page.console, request)
    return True


def refuse(response: falcon.Response, error: RefusedError, status: str = falcon.HTTP_400) -> None:
    """Set the status and headers of a refused form; the caller renders the page that gives the reason."""
    response.status = status
    if isinstance(error, LoginThrottledError | LoginBusyError):
        response.status = falcon.HTTP_429
        response.set_header("Retry-After", str(error.retry_after))
