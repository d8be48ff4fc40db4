"""The visitor's own account: password, second factor, other sessions."""

import falcon
import pyotp
import segno
from markupsafe import Markup

from app.console.form_page import FormPage, check_own_password, new_password, refuse
from app.console.forms import query_of
from app.console.page import Access, Page, form_of, see_other, visitor_of
from app.domain.texts import RefusedError, Text
from app.services.two_step import is_secret, new_secret

ACCOUNT = "/admin/account"


class AccountPage(Page):
    """`/admin/account`."""

    access = {"GET": Access.OPERATOR}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        _show(self, request, response, {})


class _AccountForm(FormPage):
    access = {"GET": Access.OPERATOR, "POST": Access.OPERATOR}
    after = ACCOUNT

    def show(self, request: falcon.Request, response: falcon.Response, refusals: dict[str, Text]) -> None:
        """Show the account."""
        _show(self, request, response, refusals)


class OwnPassword(_AccountForm):
    """`/admin/account/password`."""

    name = "password"

    def change(self, request: falcon.Request, response: falcon.Response) -> None:
        """Change the password: every session ends, and this browser begins another."""
        identity, password = visitor_of(request).who, new_password(form_of(request))
        check_own_password(self.console, request)
        session_token = visitor_of(request).session_token
        changed_at = self.operators(request).set_password(identity.name, password, session_token=session_token)
        self.console.session_cookie.set(response, self.console.sessions.renew(identity, changed_at))


class OtherSessions(_AccountForm):
    """`/admin/account/sessions`."""

    name = "sessions"

    def change(self, request: falcon.Request, _response: falcon.Response) -> None:
        """End all sessions but this one."""
        self.console.sessions.end_others(visitor_of(request).who, visitor_of(request).session_token)


class TwoStepRemoval(_AccountForm):
    """`/admin/account/two-step/remove`."""

    name = "two-step-off"

    def change(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Require no codes any more."""
        visitor = visitor_of(request)
        if not visitor.who.has_totp:
            raise RefusedError("尚未启用两步验证", "two-step verification is not enabled")
        check_own_password(self.console, request)
        self.two_step(request).disable(visitor.who.name, session_token=visitor.session_token)


class RecoveryCodes(Page):
    """`/admin/account/two-step/codes`. The answer to the form has the codes: nothing else ever does."""

    access = {"GET": Access.OPERATOR, "POST": Access.OPERATOR}

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Lead to the account: the codes are not shown again."""
        see_other(response, ACCOUNT)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        try:
            check_own_password(self.console, request)
            visitor = visitor_of(request)
            codes = self.two_step(request).renew_recovery_codes(visitor.who.name, visitor.session_token)
        except RefusedError as error:
            refuse(response, error)
            _show(self, request, response, {"recovery-codes": error.text})
            return
        self.render(request, response, "recovery_codes.html", codes=codes, is_first=False)


class TwoStepPage(Page):
    """`/admin/account/two-step`: only the browser has the secret until a code shows that an app has it."""

    access = {"GET": Access.OPERATOR, "POST": Access.OPERATOR}
    without_totp = True

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show a new secret; nothing is stored."""
        if visitor_of(request).who.has_totp:
            see_other(response, ACCOUNT)
            return
        self._show(request, response, new_secret(), None)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Require codes from now on, and show the recovery codes; sessions that began without a code end."""
        visitor, form = visitor_of(request), form_of(request)
        secret = form.one("secret")
        try:
            check_own_password(self.console, request)
            two_step, name = self.two_step(request), visitor.who.name
            codes = two_step.enable(name, secret, form.one("code"), visitor.session_token)
        except RefusedError as error:
            refuse(response, error)
            self._show(request, response, secret if is_secret(secret) else new_secret(), error.text)
            return
        self.render(request, response, "recovery_codes.html", codes=codes, is_first=True)

    def _show(self, request: falcon.Request, response: falcon.Response, secret: str, refusal: Text | None) -> None:
        issuer = self.console.system_status.settings.issuer
        uri = pyotp.TOTP(secret).provisioning_uri(name=visitor_of(request).who.name, issuer_name=issuer)
        self.render(
            request,
            response,
            "two_step.html",
            secret=secret,
            issuer=issuer,
            picture=_qr_code(uri),
            refusal=refusal,
            is_required=self.console.owners_need_totp and visitor_of(request).is_owner,
        )


def _show(page: Page, request: falcon.Request, response: falcon.Response, refusals: dict[str, Text]) -> None:
    visitor, done = visitor_of(request), query_of(request).exactly("done")
    others = page.console.sessions.others(visitor.who.id, visitor.session_token)
    codes_left = page.two_step(request).recovery_codes_left(visitor.who.id)
    page.render(request, response, "account.html", others=others, refusals=refusals, done=done, codes_left=codes_left)


def _qr_code(text: str) -> Markup:
    """Return a QR code as SVG without styles, dark on light in every theme: cameras cannot read the inverse."""
    code = segno.make_qr(text, error="m")
    return Markup(code.svg_inline(omitsize=True, dark="#000", light="#fff", svgclass="qr", lineclass=None))  # noqa: S704
