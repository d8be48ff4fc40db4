"""A log-in that ends while a form is open: nothing is done, and what was typed comes back to the same operator."""

from urllib.parse import parse_qs

import pytest

from app.console.guard import MAX_TYPED
from app.domain.operators import Role
from app.storage.models import Card, OperatorSession
from tests.support.console import PASSWORD, Browser, Seen, add_operator
from tests.support.service import Service

ISSUE, OPERATORS, LOGIN = "/admin/cards/issue", "/admin/operators", "/admin/login"
TYPED = {"validity": "other", "validity_other": "45d", "count": "7", "note": "淘宝 <张>"}
NOTHING_DONE = "提交的内容没有执行"


@pytest.fixture
def olga(service: Service) -> Browser:
    add_operator("olga")
    add_operator("sam", Role.SELLER)
    return Browser(service).walk_in("olga")


def sent_late(browser: Browser, path: str, **typed: str) -> Seen:
    """Open a form, and send it when the session has ended."""
    page = browser.get(path)
    OperatorSession.delete().execute()
    return browser.submit(page, path, typed)


def fields(page: Seen, path: str) -> dict[str, str]:
    return dict(page.form(path).fields)


def test_what_was_typed_comes_back_after_the_log_in_and_is_sent_once_more(olga: Browser) -> None:
    ended = sent_late(olga, ISSUE, **TYPED)
    assert (ended.status, NOTHING_DONE in ended.words, Card.select().count()) == (403, True, 0)
    wrong = olga.submit(ended, LOGIN, name="olga", password="wrong", code="")
    back = olga.submit(wrong, LOGIN, name="olga", password=PASSWORD, code="")
    assert (back.status, NOTHING_DONE in back.words, Card.select().count()) == (200, True, 0)
    assert TYPED.items() <= fields(back, ISSUE).items()
    assert "已发出 7 张" in olga.submit(back, ISSUE).words


def test_another_operator_does_not_get_it(olga: Browser) -> None:
    ended = sent_late(olga, ISSUE, **TYPED)
    seen = olga.submit(ended, LOGIN, name="sam", password=PASSWORD, code="")
    assert (seen.path, TYPED["note"] in seen.text) == (ISSUE, False)


def test_passwords_do_not_come_back(olga: Browser) -> None:
    new = {"name": "otto", "new_password": "a new password", "new_password_again": "a new password"}
    ended = sent_late(olga, OPERATORS, **new, own_password=PASSWORD)
    assert parse_qs(fields(ended, LOGIN)["typed"]).keys() == {"name", "role", "typed_by"}
    back = olga.submit(ended, LOGIN, name="olga", password=PASSWORD, code="")
    assert fields(back, OPERATORS)["name"] == "otto"
    assert not {"a new password", PASSWORD} & set(fields(back, OPERATORS).values())


@pytest.mark.parametrize("typed", [{"csrf": "x"}, {"note": "x" * MAX_TYPED}])
def test_a_form_of_another_session_and_too_long_a_one_are_not_brought_back(
    olga: Browser, typed: dict[str, str]
) -> None:
    ended = sent_late(olga, ISSUE, **typed)
    assert (ended.path.startswith(LOGIN), NOTHING_DONE in ended.words) == (True, True)
    assert "typed" not in fields(ended, LOGIN)


def test_any_other_form_says_that_nothing_was_done(olga: Browser) -> None:
    page = olga.get("/admin/account")
    OperatorSession.delete().execute()
    ended = olga.submit(page, "/admin/account/password")
    assert (ended.path, NOTHING_DONE in ended.words) == (f"{LOGIN}?next=%2Fadmin%2Faccount%2Fpassword&ended=yes", True)
    assert olga.post("/admin/logout", csrf="").headers["location"] == LOGIN
