"""The log-in and the log-out, the visitor's own account, and the files that anybody may have."""

import falcon
import pyotp
import segno
from markupsafe import Markup

from app.console.form_page import FormPage, new_password
from app.console.forms import Form, query_of
from app.console.guard import HOME, safe_next
from app.console.page import Access, Console, Page, Values, see_other, visitor_of
from app.console.rendering import url
from app.console.visitor import LOGIN
from app.domain.operators.operators import MAX_NAME
from app.domain.texts import RefusedError
from app.http.request_parser import client_address
from app.services.operators.operators import Operators
from app.services.operators.two_step import is_secret

ACCOUNT = "/admin/account"


class LoginPage(FormPage):
    access = {"GET": Access.PUBLIC, "POST": Access.PUBLIC}
    template = "operators/login.html"
    refused_status = falcon.HTTP_403

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        if visitor_of(request).identity is not None:
            see_other(response, safe_next(query_of(request).one("next")))
        else:
            super().on_get(request, response)

    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> str:
        address, sessions = client_address(request, behind_proxy=self.console.behind_proxy), self.console.sessions
        token = sessions.log_in(_name(form), form.exactly("password"), form.one("code") or None, address)
        if visitor_of(request).identity is not None:  # the browser forgets that session: only this request can end it
            sessions.end(visitor_of(request).who, visitor_of(request).session_token)
        self.console.session_cookie.set(response, token)
        return safe_next(form.one("next"))

    def values(self, request: falcon.Request, form: Form) -> Values:
        query = query_of(request)
        onward = safe_next((form if request.method == "POST" else query).one("next"))
        return {"name": _name(form), "onward": onward, "ended": query.exactly("ended") == "yes"}


def _name(form: Form) -> str:
    """Return the name; the page repeats a refused one: no more of it than shows that it is too long."""
    return form.one("name")[: MAX_NAME + 1]


class LogoutPage(FormPage):
    access = {"POST": Access.OPERATOR}
    without_totp = True

    def change(self, request: falcon.Request, response: falcon.Response, _form: Form) -> str:
        self.console.sessions.end(visitor_of(request).who, visitor_of(request).session_token)
        self.console.session_cookie.unset(response)
        return LOGIN


class HomeRedirect(FormPage):
    access = {"GET": Access.PUBLIC}
    leads_to = HOME


class SessionCheck:
    """`/admin/session`: whether a request has a session. nginx asks before it reads the body of a long form.

    No `Page`: 401 is also the answer where there are no operators, and nginx gives a problem for any other.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        token = self._console.session_cookie.token(request)
        has_session = bool(token) and self._console.sessions.identify(token) is not None
        response.status = falcon.HTTP_204 if has_session else falcon.HTTP_401
        response.set_header("Cache-Control", "no-store")


class StaticPage(Page):
    access = {"GET": Access.PUBLIC}

    def on_get(self, _request: falcon.Request, response: falcon.Response, name: str = "") -> None:
        file = self.console.static.get(name)
        if file is None:
            raise falcon.HTTPNotFound
        response.content_type = file.content_type
        response.data = file.content
        response.set_header("Cache-Control", "public, max-age=31536000, immutable")


class AccountPage(FormPage):
    access = {"GET": Access.OPERATOR}
    template = "operators/account.html"

    def values(self, request: falcon.Request, _form: Form) -> Values:
        visitor = visitor_of(request)
        return {"others": self.console.sessions.others(visitor.who.id, visitor.session_token)}


class _AccountForm(AccountPage):
    access = {"GET": Access.OPERATOR, "POST": Access.OPERATOR}
    leads_to = ACCOUNT


class OwnPassword(_AccountForm):
    name = "password"

    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> str:
        """Change the password: every session ends, and this browser begins another."""
        visitor, password = visitor_of(request), new_password(form)
        self.check_own_password(request, form)
        operators = self.acting(request, Operators)
        changed_at = operators.set_password(visitor.who.name, password, session_token=visitor.session_token)
        self.console.session_cookie.set(response, self.console.sessions.renew(visitor.who, changed_at))
        return url(ACCOUNT, done=self.name)


class OtherSessions(_AccountForm):
    name = "sessions"

    def change(self, request: falcon.Request, _response: falcon.Response, _form: Form) -> str:
        self.console.sessions.end_others(visitor_of(request).who, visitor_of(request).session_token)
        return url(ACCOUNT, done=self.name)


class TwoStepRemoval(_AccountForm):
    name = "two-step-off"

    def change(self, request: falcon.Request, _response: falcon.Response, form: Form) -> str:
        visitor = visitor_of(request)
        if not visitor.who.has_totp:
            raise RefusedError("尚未启用两步验证", "two-step verification is not enabled")
        self.check_own_password(request, form)
        self.two_step(request).disable(visitor.who.name, session_token=visitor.session_token)
        return url(ACCOUNT, done=self.name)


class TwoStepPage(FormPage):
    """`/admin/account/two-step`: only the browser has the secret until a code shows that an app has it."""

    access = {"GET": Access.OPERATOR, "POST": Access.OPERATOR}
    template = "operators/two_step.html"
    without_totp = True

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show a new secret; nothing is stored."""
        if visitor_of(request).who.has_totp:
            see_other(response, ACCOUNT)
        else:
            super().on_get(request, response)

    def change(self, request: falcon.Request, _response: falcon.Response, form: Form) -> str:
        """Require codes from now on; sessions that began without a code end."""
        self.check_own_password(request, form)
        visitor, secret, code = visitor_of(request), form.one("secret"), form.one("code")
        self.two_step(request).enable(visitor.who.name, secret, code, visitor.session_token)
        return url(ACCOUNT, done="two-step-on")

    def values(self, request: falcon.Request, form: Form) -> Values:
        visitor, issuer = visitor_of(request), self.console.system_status.settings.issuer
        secret = form.one("secret") if is_secret(form.one("secret")) else pyotp.random_base32()
        uri = pyotp.TOTP(secret).provisioning_uri(name=visitor.who.name, issuer_name=issuer)
        is_required = self.console.owners_need_totp and visitor.is_owner
        return {"secret": secret, "issuer": issuer, "picture": _qr_code(uri), "is_required": is_required}


def _qr_code(text: str) -> Markup:
    """Return a QR code as SVG without styles, dark on light in every theme: cameras cannot read the inverse."""
    code = segno.make_qr(text, error="m")
    return Markup(code.svg_inline(omitsize=True, dark="#000", light="#fff", svgclass="qr", lineclass=None))  # noqa: S704
