"""Whose requests are counted: those that come with a session or a shop's token, except log-ins."""

import pytest
from falcon.testing import create_environ

from app.console.cookies import sender_of, session_cookie


@pytest.mark.parametrize(
    ("path", "sender"),
    [
        ("/admin/cards", "token"),
        ("/admin", "token"),
        ("/admin/login", None),
        ("/admin/static/console.js", None),
        ("/v1/shop/cards", "shop"),
        ("/v1/verify", None),
        ("/", None),
    ],
)
def test_a_request_is_counted_for_its_session_or_token(path: str, sender: str | None) -> None:
    cookie = session_cookie(behind_proxy=True)
    headers = {"Cookie": f"kadun_language=en; {cookie.name}=token", "Authorization": "Bearer shop"}
    assert sender_of(cookie, create_environ(path, headers=headers)) == sender
    assert sender_of(cookie, create_environ(path)) is None


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
def test_a_token_is_one_sender_however_its_scheme_is_written(scheme: str) -> None:
    cookie = session_cookie(behind_proxy=True)
    environ = create_environ("/v1/shop/cards", headers={"Authorization": scheme + "shop"})
    assert sender_of(cookie, environ) == "shop"
