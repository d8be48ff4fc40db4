"""Operators and the shops' tokens: seen and changed by owners."""

from abc import abstractmethod

import falcon

from app.console.forms import query_of
from app.console.page import Access, Page, form_of, see_other, visitor_of
from app.console.proof import new_password, prove_own, refuse
from app.console.rendering import url
from app.domain.operators import Role
from app.domain.texts import RefusedError, Text
from app.http.problems import invalid_request, not_found
from app.services.operators import Account, OperatorNotFoundError
from app.services.shop_tokens import ShopToken, TokenNotFoundError

LIST = "/admin/operators"


class OperatorsPage(Page):
    """`/admin/operators`: the list, and the form that adds one."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show operators and tokens."""
        self._show(request, response, typed={"name": "", "role": Role.SELLER})

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Add an operator."""
        form = form_of(request)
        name, role = form.one("name"), _role(form.one("role"))
        try:
            password = new_password(form)
            prove_own(self.console, request)
            self.operators(request).add(name, role, password)
        except RefusedError as error:
            refuse(response, error)
            self._show(request, response, typed={"name": name, "role": role}, refusal=error.text)
            return
        see_other(response, url(LIST, done="added"))

    def _show(
        self, request: falcon.Request, response: falcon.Response, typed: dict[str, str], refusal: Text | None = None
    ) -> None:
        operators = self.operators(request)
        self.render(
            request,
            response,
            "operators.html",
            accounts=operators.list(),
            log_ins=operators.last_log_ins(),
            tokens=self.shop_tokens(request).list(),
            typed=typed,
            refusal=refusal,
            done=query_of(request).exactly("done"),
        )


class OperatorPage(Page):
    """`/admin/operator?name=…`: one operator, and all that can be done to them."""

    access = {"GET": Access.OWNER}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show it."""
        account = self._account(request, query_of(request).exactly("name"))
        self._show(request, response, account, {})

    def _account(self, request: falcon.Request, name: str) -> Account:
        found = next((account for account in self.operators(request).list() if account.name == name), None)
        if found is None:
            raise not_found(OperatorNotFoundError(name).text)
        return found

    def _show(
        self, request: falcon.Request, response: falcon.Response, account: Account, refusals: dict[str, Text]
    ) -> None:
        log_in = self.operators(request).last_log_ins().get(account.name)
        self.render(request, response, "operator.html", account=account, log_in=log_in, refusals=refusals)


class _Change(OperatorPage):
    """A form on the page of an operator; where it is refused, that page is shown again, with why."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}
    what: str

    @abstractmethod
    def change(self, request: falcon.Request, account: Account) -> None:
        """Do it.

        Raises:
            RefusedError: it cannot be done.
        """

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Lead whoever reloads a refused form, or changes its language, to the list."""
        see_other(response, LIST)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Change it, once whoever asks has shown that they know their own password."""
        account = self._account(request, form_of(request).exactly("name"))
        try:
            _require_another(request, account)
            prove_own(self.console, request)
            self.change(request, account)
        except RefusedError as error:
            refuse(response, error)
            self._show(request, response, account, {self.what: error.text})
            return
        see_other(response, url(LIST, done=self.what))


class OperatorRole(_Change):
    """`/admin/operator/role`."""

    what = "role"

    def change(self, request: falcon.Request, account: Account) -> None:
        """Give another role."""
        self.operators(request).set_role(account.name, _role(form_of(request).one("role")))


class OperatorPassword(_Change):
    """`/admin/operator/password`."""

    what = "password"

    def change(self, request: falcon.Request, account: Account) -> None:
        """Set a password."""
        self.operators(request).set_password(account.name, new_password(form_of(request)))


class OperatorTwoStep(_Change):
    """`/admin/operator/two-step`."""

    what = "two-step"

    def change(self, request: falcon.Request, account: Account) -> None:
        """Take the second factor away."""
        self.operators(request).reset_totp(account.name)


class OperatorRemoval(_Change):
    """`/admin/operator/remove`."""

    what = "removed"

    def change(self, request: falcon.Request, account: Account) -> None:
        """Remove the operator."""
        self.operators(request).remove(account.name)


class TokenPage(Page):
    """`/admin/token?name=…`: a shop's token, and its revocation."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show what the token is, and what revoking it would mean."""
        self._show(request, response, self._token(request, query_of(request).exactly("name")), None)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Revoke it; one that is revoked already, or was meanwhile, stays so."""
        token = self._token(request, form_of(request).exactly("name"))
        try:
            if token.revoked_at is None:
                prove_own(self.console, request)
                self.shop_tokens(request).revoke(token.name)
        except TokenNotFoundError:
            pass  # another tab was quicker
        except RefusedError as error:
            refuse(response, error)
            self._show(request, response, token, error.text)
            return
        see_other(response, url(LIST, done="revoked"))

    def _show(self, request: falcon.Request, response: falcon.Response, token: ShopToken, refusal: Text | None) -> None:
        self.render(request, response, "token.html", token=token, refusal=refusal)

    def _token(self, request: falcon.Request, name: str) -> ShopToken:
        found = next((token for token in self.shop_tokens(request).list() if token.name == name), None)
        if found is None:
            raise not_found(TokenNotFoundError(name).text)
        return found


def _require_another(request: falcon.Request, account: Account) -> None:
    """Nobody shuts themselves out by a slip; and one's own password is changed by who knows the old one.

    Raises:
        RefusedError: it is whoever asks.
    """
    if visitor_of(request).who.id == account.id:
        raise RefusedError(
            "不能在此修改自己的账号：请由另一位所有者操作，或用命令行",
            "your own account is not changed here: another owner can, or the command line",
        )


def _role(typed: str) -> Role:
    """Return the role of a form.

    Raises:
        Problem: it is none.
    """
    try:
        return Role(typed)
    except ValueError as error:
        raise invalid_request(Text("没有这个角色。", "There is no such role."), "role") from error
