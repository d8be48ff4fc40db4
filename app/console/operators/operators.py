"""Operators and the shops' tokens, which owners see and change."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import falcon

from app.console.form_page import FormPage, new_password
from app.console.forms import Form
from app.console.page import Access, Console, Values, visitor_of
from app.console.rendering import url
from app.domain.operators import ceilings
from app.domain.operators.operators import Role
from app.domain.texts import RefusedError, Text
from app.http.problems import invalid_request, not_found
from app.services.imports.import_times import read_validity
from app.services.operators.operators import Account, OperatorNotFoundError, Operators
from app.services.operators.two_step import TwoStep
from app.services.shop.shop_tokens import ShopToken, ShopTokens, TokenNotFoundError

LIST = "/admin/operators"
Row = TypeVar("Row", Account, ShopToken)


class OperatorsPage(FormPage):
    template = "operators/operators.html"

    def change(self, request: falcon.Request, _response: falcon.Response, form: Form) -> str:
        role, password = _role(form.one("role")), new_password(form)
        self.check_own_password(request, form)
        self.acting(request, Operators).add(form.one("name"), role, password)
        return url(LIST, done="added")

    def values(self, request: falcon.Request, form: Form) -> Values:
        operators = self.acting(request, Operators)
        return {
            "accounts": operators.list(),
            "log_ins": operators.last_log_ins(),
            "tokens": self.acting(request, ShopTokens).list(),
            "defaults": ceilings.OPERATOR_DEFAULTS,
            "typed": {"name": form.one("name"), "role": form.one("role") or Role.SELLER},
        }


class OperatorPage(FormPage):
    """`/admin/operator?name=…`: one operator, and the forms that change them."""

    access = {"GET": Access.OWNER}
    template = "operators/operator.html"
    takes_query = True

    def account(self, request: falcon.Request, form: Form) -> Account:
        return _named(self.acting(request, Operators).list(), form, OperatorNotFoundError)

    def values(self, request: falcon.Request, form: Form) -> Values:
        account = self.account(request, form)
        return {
            "account": account,
            "log_in": self.acting(request, Operators).last_log_ins().get(account.name),
            "longest": ceilings.format_longest(account.longest_validity),
            "most_cards": ceilings.MAX_CARDS_PER_DAY,
            "most_changes": ceilings.MAX_CHANGES_PER_DAY,
        }


_CHANGES: dict[str, Callable[[TwoStep, str, Form], object]] = {
    "role": lambda two_step, name, form: two_step.operators.set_role(name, _role(form.one("role"))),
    "ceilings": lambda two_step, name, form: two_step.operators.set_ceilings(name, _ceilings(form)),
    "password": lambda two_step, name, form: two_step.operators.set_password(name, new_password(form)),
    "two-step": lambda two_step, name, _form: two_step.disable(name, log_out=True),
    "removed": lambda two_step, name, _form: two_step.operators.remove(name),
}


class OperatorForm(OperatorPage):
    """A form that changes the operator it names; `name` is one of `_CHANGES`."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}
    leads_to = LIST

    def __init__(self, console: Console, name: str) -> None:
        super().__init__(console)
        self.name = name

    def change(self, request: falcon.Request, _response: falcon.Response, form: Form) -> str:
        account = self.account(request, form)
        if visitor_of(request).who.id == account.id:  # so that nobody locks themselves out by a slip
            raise RefusedError(
                "不能在此修改自己的账号：请由另一位所有者操作，或用命令行",
                "your own account is not changed here: another owner can, or the command line",
            )
        self.check_own_password(request, form)
        _CHANGES[self.name](self.two_step(request), account.name, form)
        return url(LIST, done=self.name)


def operator_forms(console: Console) -> Iterator[tuple[str, OperatorForm]]:
    for name in _CHANGES:
        yield f"/admin/operator/{'remove' if name == 'removed' else name}", OperatorForm(console, name)


class TokenPage(FormPage):
    """`/admin/token?name=…`: a shop's token, and its revocation."""

    template = "operators/token.html"
    takes_query = True

    def change(self, request: falcon.Request, _response: falcon.Response, form: Form) -> str:
        """Revoke the token; revoking it again changes nothing."""
        token = self._token(request, form)
        if token.revoked_at is None:
            self.check_own_password(request, form)
            with contextlib.suppress(TokenNotFoundError):  # another tab was quicker
                self.acting(request, ShopTokens).revoke(token.name)
        return url(LIST, done="revoked")

    def values(self, request: falcon.Request, form: Form) -> Values:
        return {"token": self._token(request, form)}

    def _token(self, request: falcon.Request, form: Form) -> ShopToken:
        return _named(self.acting(request, ShopTokens).list(), form, TokenNotFoundError)


def _named(rows: Sequence[Row], form: Form, not_known: Callable[[str], RefusedError]) -> Row:
    name = form.exactly("name")
    for row in rows:
        if row.name == name:
            return row
    raise not_found(not_known(name).text)


def _ceilings(form: Form) -> ceilings.Ceilings:
    """Return the ceilings that a form names; an empty field is one that stays."""
    longest = form.one("longest_validity")
    return ceilings.Ceilings(
        _number(form.one("cards_per_day")),
        ceilings.longest_of(read_validity(longest)) if longest else None,
        _number(form.one("changes_per_day")),
    )


def _number(text: str) -> int | None:
    if text and not (text.isascii() and text.isdigit() and len(text) <= len(str(ceilings.MAX_CARDS_PER_DAY))):
        raise RefusedError("每天的张数上限必须是整数", "a ceiling of cards a day must be a whole number")
    return int(text) if text else None


def _role(typed: str) -> Role:
    try:
        return Role(typed)
    except ValueError as error:
        raise invalid_request(Text("没有这个角色。", "There is no such role."), "role") from error
