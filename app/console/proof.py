"""Passwords in forms: one's own, before what the thief of a session must not do; a new one, typed twice."""

import falcon

from app.console.forms import Form
from app.console.page import Console, form_of, visitor_of
from app.domain.texts import RefusedError
from app.http.request_parser import client_address
from app.services.credentials import LoginRefusedError, LoginThrottledError
from app.services.passwords import LoginBusyError

_BUSY_RETRY_AFTER = "2"


def new_password(form: Form) -> str:
    """Return the new password.

    Raises:
        RefusedError: what was typed the second time differs.
    """
    password = form.exactly("new_password")
    if password != form.exactly("new_password_again"):
        raise RefusedError("两次输入的新密码不一致", "the new password was typed differently the second time")
    return password


def prove_own(console: Console, request: falcon.Request, *, with_code: bool = False) -> None:
    """Check that whoever is logged in knows their password, and has their second factor at hand if `with_code`.

    Raises:
        RefusedError: no, or too many wrong ones before.
    """
    identity, form = visitor_of(request).who, form_of(request)
    password = form.exactly("own_password")
    address = client_address(request, behind_proxy=console.behind_proxy)
    try:
        if with_code:
            console.sessions.confirm_with_code(identity, password, form.one("code"), address=address)
        else:
            console.sessions.confirm(identity, password, address=address)
    except LoginRefusedError as error:
        if with_code:
            raise RefusedError("密码或验证码不正确", "wrong password or code") from error
        raise RefusedError("您的密码不正确", "your own password is wrong") from error


def refuse(response: falcon.Response, error: RefusedError, status: str = falcon.HTTP_400) -> None:
    """Answer that a form was refused; the page that says why is the caller's."""
    response.status = status
    if isinstance(error, LoginThrottledError):
        response.status = falcon.HTTP_429
        response.set_header("Retry-After", str(error.retry_after))
    elif isinstance(error, LoginBusyError):
        response.status = falcon.HTTP_503
        response.set_header("Retry-After", _BUSY_RETRY_AFTER)
