"""Operators and the shops' tokens, which owners see and change."""

from collections.abc import Callable, Iterator

import falcon

from app.console.form_page import FormPage, check_own_password, new_password, refuse
from app.console.forms import Form, query_of
from app.console.page import Access, Console, Page, form_of, see_other, visitor_of
from app.console.rendering import url
from app.domain.ceilings import (
    MAX_CARDS_PER_DAY,
    MAX_CHANGES_PER_DAY,
    OPERATOR_DEFAULTS,
    Ceilings,
    format_longest,
    longest_of,
)
from app.domain.operators import Role
from app.domain.texts import RefusedError, Text
from app.http.problems import invalid_request, not_found
from app.services.import_times import read_validity
from app.services.operators import Account, OperatorNotFoundError, Operators
from app.services.shop_tokens import ShopToken, TokenNotFoundError
from app.services.two_step import TwoStep

LIST = "/admin/operators"


class OperatorsPage(Page):
    """`/admin/operators`: the list, and the form that adds an operator."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        self._show(request, response, typed={"name": "", "role": Role.SELLER})

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        form = form_of(request)
        name, role = form.one("name"), _role(form.one("role"))
        try:
            password = new_password(form)
            check_own_password(self.console, request)
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
            defaults=OPERATOR_DEFAULTS,
            typed=typed,
            refusal=refusal,
            done=query_of(request).exactly("done"),
        )


class OperatorPage(Page):
    """`/admin/operator?name=…`: one operator, and the forms that change them."""

    access = {"GET": Access.OWNER}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        _show_operator(self, request, response, _account(self, request, query_of(request).exactly("name")), {})


class OperatorForm(FormPage):
    """A form that changes the operator it names; `apply` does it, and may raise `RefusedError`."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}
    after = LIST

    def __init__(self, console: Console, name: str, apply: Callable[[Operators, str, Form], None]) -> None:
        super().__init__(console)
        self.name = name
        self._apply = apply

    def change(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Change the operator, after a check of the visitor's own password."""
        account = self._account(request)
        if visitor_of(request).who.id == account.id:  # so that nobody locks themselves out by a slip
            raise RefusedError(
                "不能在此修改自己的账号：请由另一位所有者操作，或用命令行",
                "your own account is not changed here: another owner can, or the command line",
            )
        check_own_password(self.console, request)
        self._apply(self.operators(request), account.name, form_of(request))

    def show(self, request: falcon.Request, response: falcon.Response, refusals: dict[str, Text]) -> None:
        """Show the operator."""
        _show_operator(self, request, response, self._account(request), refusals)

    def _account(self, request: falcon.Request) -> Account:
        return _account(self, request, form_of(request).exactly("name"))


def operator_forms(console: Console) -> Iterator[tuple[str, OperatorForm]]:
    """Yield the forms of an operator's page with their paths."""

    def set_role(operators: Operators, name: str, form: Form) -> None:
        operators.set_role(name, _role(form.one("role")))

    def set_ceilings(operators: Operators, name: str, form: Form) -> None:
        operators.set_ceilings(name, _ceilings(form))

    def set_password(operators: Operators, name: str, form: Form) -> None:
        operators.set_password(name, new_password(form))

    def disable_totp(operators: Operators, name: str, _form: Form) -> None:
        TwoStep(operators, console.sealing_key).disable(name, log_out=True)

    def remove(operators: Operators, name: str, _form: Form) -> None:
        operators.remove(name)

    yield "/admin/operator/role", OperatorForm(console, "role", set_role)
    yield "/admin/operator/ceilings", OperatorForm(console, "ceilings", set_ceilings)
    yield "/admin/operator/password", OperatorForm(console, "password", set_password)
    yield "/admin/operator/two-step", OperatorForm(console, "two-step", disable_totp)
    yield "/admin/operator/remove", OperatorForm(console, "removed", remove)


class TokenPage(Page):
    """`/admin/token?name=…`: a shop's token, and its revocation."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        self._show(request, response, self._token(request, query_of(request).exactly("name")), None)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Revoke the token; revoking it again changes nothing."""
        token = self._token(request, form_of(request).exactly("name"))
        try:
            if token.revoked_at is None:
                check_own_password(self.console, request)
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


def _account(page: Page, request: falcon.Request, name: str) -> Account:
    found = next((account for account in page.operators(request).list() if account.name == name), None)
    if found is None:
        raise not_found(OperatorNotFoundError(name).text)
    return found


def _show_operator(
    page: Page, request: falcon.Request, response: falcon.Response, account: Account, refusals: dict[str, Text]
) -> None:
    log_in = page.operators(request).last_log_ins().get(account.name)
    page.render(
        request,
        response,
        "operator.html",
        account=account,
        log_in=log_in,
        longest=format_longest(account.longest_validity),
        most_cards=MAX_CARDS_PER_DAY,
        most_changes=MAX_CHANGES_PER_DAY,
        refusals=refusals,
    )


def _ceilings(form: Form) -> Ceilings:
    """Return the ceilings that a form names; an empty field is one that stays."""
    longest = form.one("longest_validity")
    return Ceilings(
        _number(form.one("cards_per_day")),
        longest_of(read_validity(longest)) if longest else None,
        _number(form.one("changes_per_day")),
    )


def _number(text: str) -> int | None:
    if text and not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_CARDS_PER_DAY))):
        raise RefusedError("每天的张数上限必须是整数", "a ceiling of cards a day must be a whole number")
    return int(text) if text else None


def _role(typed: str) -> Role:
    """Return the role that a form names."""
    try:
        return Role(typed)
    except ValueError as error:
        raise invalid_request(Text("没有这个角色。", "There is no such role."), "role") from error
