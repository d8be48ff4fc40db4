"""One's own account: password, second factor, sessions elsewhere."""

from abc import abstractmethod

import falcon
import pyotp
import segno
from markupsafe import Markup

from app.console.entrance import keep_log_in
from app.console.forms import query_of
from app.console.page import Access, Page, form_of, see_other, visitor_of
from app.console.proof import new_password, prove_own, refuse
from app.console.rendering import url
from app.domain.texts import RefusedError, Text
from app.services.totp import is_secret

ACCOUNT = "/admin/account"


class AccountPage(Page):
    """`/admin/account`."""

    access = {"GET": Access.OPERATOR}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show it."""
        self.show(request, response, {}, done=query_of(request).exactly("done"))

    def show(
        self, request: falcon.Request, response: falcon.Response, refusals: dict[str, Text], done: str = ""
    ) -> None:
        """Answer with the account's page; `refusals` by form."""
        others = self.console.sessions.others(visitor_of(request).who.id, visitor_of(request).session_token)
        self.render(request, response, "account.html", others=others, refusals=refusals, done=done)


class _Change(AccountPage):
    """A form on that page."""

    access = {"GET": Access.OPERATOR, "POST": Access.OPERATOR}
    what: str

    @abstractmethod
    def change(self, request: falcon.Request, response: falcon.Response) -> None:
        """Do it.

        Raises:
            RefusedError: it cannot be done.
        """

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Lead whoever reloads a refused form, or changes its language, to the page."""
        see_other(response, ACCOUNT)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Change it, or show the page again with why not."""
        try:
            self.change(request, response)
        except RefusedError as error:
            refuse(response, error)
            self.show(request, response, {self.what: error.text})
            return
        see_other(response, url(ACCOUNT, done=self.what))


class OwnPassword(_Change):
    """`/admin/account/password`."""

    what = "password"

    def change(self, request: falcon.Request, response: falcon.Response) -> None:
        """Change the password: every session ends, and this browser begins another."""
        identity, password = visitor_of(request).who, new_password(form_of(request))
        prove_own(self.console, request)
        self.operators(request).set_password(identity.name, password)
        keep_log_in(response, self.console.sessions.begin_anew(identity))


class OtherSessions(_Change):
    """`/admin/account/sessions`."""

    what = "sessions"

    def change(self, request: falcon.Request, _response: falcon.Response) -> None:
        """End all sessions but this one."""
        self.console.sessions.end_others(visitor_of(request).who, visitor_of(request).session_token)


class TwoStepRemoval(_Change):
    """`/admin/account/two-step/remove`."""

    what = "two-step-off"

    def change(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Ask for no codes any more."""
        identity = visitor_of(request).who
        if not identity.has_totp:
            raise RefusedError("尚未启用两步验证", "there is no second factor to take away")
        prove_own(self.console, request, with_code=True)
        self.operators(request).disable_totp(identity.name)


class TwoStepPage(Page):
    """`/admin/account/two-step`: the secret is the browser's until a code shows that an app has it."""

    access = {"GET": Access.OPERATOR, "POST": Access.OPERATOR}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show a new secret; nothing is stored."""
        if visitor_of(request).who.has_totp:
            see_other(response, ACCOUNT)
            return
        self._show(request, response, self.operators(request).begin_totp(), None)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Ask for codes from now on; sessions that began without one end."""
        visitor, form = visitor_of(request), form_of(request)
        secret = form.one("secret")
        try:
            prove_own(self.console, request)
            self.operators(request).enable_totp(visitor.who.name, secret, form.one("code"), visitor.session_token)
        except RefusedError as error:
            refuse(response, error)
            kept = secret if is_secret(secret) else self.operators(request).begin_totp()
            self._show(request, response, kept, error.text)
            return
        see_other(response, url(ACCOUNT, done="two-step-on"))

    def _show(self, request: falcon.Request, response: falcon.Response, secret: str, refusal: Text | None) -> None:
        issuer = self.console.system_status.issuer
        uri = pyotp.TOTP(secret).provisioning_uri(name=visitor_of(request).who.name, issuer_name=issuer)
        self.render(
            request, response, "two_step.html", secret=secret, issuer=issuer, picture=_qr_code(uri), refusal=refusal
        )


def _qr_code(text: str) -> Markup:
    """Return a QR code as SVG: attributes alone and no style, dark on light whatever the theme, or cameras fail."""
    code = segno.make_qr(text, error="m")
    return Markup(code.svg_inline(omitsize=True, dark="#000", light="#fff", svgclass="qr", lineclass=None))  # noqa: S704
