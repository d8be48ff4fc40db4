"""A log-in that ends while a form is open: nothing is done, and what was typed comes back to the same operator."""

from urllib.parse import parse_qs, urlsplit

import pytest

from app.domain.operators import Role
from app.storage.models import Card, OperatorSession
from tests.support.console import PASSWORD, Browser, Seen, add_operator
from tests.support.service import Service
from tests.support.tables import for_each

ISSUE, LOGIN = "/admin/cards/issue", "/admin/login"
OPERATORS, BLOCK = "/admin/operators", "/admin/blocks/add"
TYPED = {"validity": "other", "validity_other": "45d", "count": "7", "batch": "双十一", "note": "淘宝 <张>"}
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


def logged_in(browser: Browser, page: Seen, name: str = "olga") -> Seen:
    return browser.submit(page, LOGIN, name=name, password=PASSWORD, code="")


def fields(page: Seen, path: str) -> dict[str, str]:
    return dict(page.form(path).fields)


def onward(page: Seen) -> str:
    return fields(page, LOGIN)["next"]


def test_what_was_typed_comes_back_after_the_log_in_and_is_sent_once_more(olga: Browser) -> None:
    ended = sent_late(olga, ISSUE, **TYPED)
    assert (ended.status, NOTHING_DONE in ended.words, Card.select().count()) == (200, True, 0)
    wrong = olga.submit(ended, LOGIN, name="olga", password="wrong", code="")
    assert (wrong.status, NOTHING_DONE in wrong.words) == (403, True)
    (english,) = [link for link in wrong.links if "lang=en" in link]
    back = logged_in(olga, olga.get(english))
    assert (back.status, "was not done" in back.words, Card.select().count()) == (200, True, 0)
    (chinese,) = [link for link in back.links if "lang=zh" in link]
    back = olga.get(chinese)
    assert (urlsplit(back.path).path, NOTHING_DONE in back.words) == (ISSUE, True)
    assert TYPED.items() <= fields(back, ISSUE).items()
    assert "已发出 7 张" in olga.submit(back, ISSUE).words
    seen = logged_in(olga, sent_late(olga, ISSUE, **TYPED), "sam")
    assert (seen.path, TYPED["note"] in seen.text) == (ISSUE, False), "another operator does not get it"


@for_each(
    "path, typed",
    [
        (BLOCK, {"hardware": " disk 7", "reason": "退款后仍用"}),
        (OPERATORS, {"name": "otto", "role": "owner"}),
    ],
)
def test_other_forms_come_back_too_without_passwords(olga: Browser, path: str, typed: dict[str, str]) -> None:
    secrets = dict.fromkeys(("new_password", "new_password_again", "own_password"), PASSWORD)
    ended = sent_late(olga, path, **typed, **secrets)
    assert not secrets.keys() & parse_qs(urlsplit(onward(ended)).query).keys()
    back = logged_in(olga, ended)
    assert (urlsplit(back.path).path, NOTHING_DONE in back.words) == (path, True)
    assert {name: text.replace("\r\n", "\n") for name, text in typed.items()}.items() <= fields(back, path).items()


@for_each("typed, page", [({"csrf": "x"}, ISSUE), ({"note": "注" * 200}, "/admin/")])
def test_a_form_of_another_session_and_too_long_a_one_are_not_brought_back(
    olga: Browser, typed: dict[str, str], page: str
) -> None:
    ended = sent_late(olga.walk_in("olga"), ISSUE, **typed)
    assert (ended.path.startswith(LOGIN), NOTHING_DONE in ended.words) == (True, True)
    assert onward(ended) == page


@for_each(
    "path, then",
    [
        ("/admin/account/password", "/admin/"),
        ("/admin/blocks/remove", "/admin/"),
        ("/admin/settings", "/admin/"),
        ("/admin/cards/edit/apply", "/admin/"),
        ("/admin/token?name=shop", "/admin/token?name=shop"),
    ],
)
def test_any_other_form_says_that_nothing_was_done(service: Service, olga: Browser, path: str, then: str) -> None:
    stranger = Browser(service)
    ended = stranger.follow(stranger.post(path, csrf=""))
    assert (NOTHING_DONE in ended.words, onward(ended)) == (True, then)
    assert stranger.post("/admin/logout", csrf="").headers["location"] == LOGIN, "a log-out says nothing"
