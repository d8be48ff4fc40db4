"""A log-in that ends while a form is open: nothing is done, and the log-in leads back to the page."""

import pytest

from app.domain.operators import Role
from app.storage.models import Card, OperatorSession
from tests.support.console import PASSWORD, Browser, add_operator
from tests.support.service import Service
from tests.support.tables import for_each

ISSUE, LOGIN = "/admin/cards/issue", "/admin/login"
NOTHING_DONE = "提交的内容没有执行"


@pytest.fixture
def olga(service: Service) -> Browser:
    add_operator("olga", Role.SELLER)
    return Browser(service).walk_in("olga")


def test_a_form_sent_late_does_nothing_and_the_log_in_leads_back_to_its_page(olga: Browser) -> None:
    page = olga.get(ISSUE)
    OperatorSession.delete().execute()
    ended = olga.submit(page, ISSUE, count="7", note="淘宝 <张>")
    assert (ended.status, NOTHING_DONE in ended.words) == (200, True)
    wrong = olga.submit(ended, LOGIN, name="olga", password="wrong", code="")
    assert (wrong.status, NOTHING_DONE in wrong.words) == (403, True)
    (english,) = [link for link in wrong.links if "lang=en" in link]
    back = olga.submit(olga.get(english), LOGIN, name="olga", password=PASSWORD, code="")
    assert (back.status, back.path, "淘宝" in back.text) == (200, ISSUE, False)
    assert Card.select().count() == 0


@for_each(
    "path, onward",
    [
        ("/admin/settings", "/admin/settings"),
        ("/admin/token?name=shop", "/admin/token?name=shop"),
        ("/admin/cards/export?q=" + "x" * 3_000, "/admin/"),  # longer than nginx takes as the log-in's address
    ],
)
def test_any_form_says_that_nothing_was_done(olga: Browser, path: str, onward: str) -> None:
    stranger = Browser(olga.service)
    ended = stranger.follow(stranger.post(path, csrf=""))
    assert (NOTHING_DONE in ended.words, dict(ended.form(LOGIN).fields)["next"]) == (True, onward)
    assert stranger.post("/admin/logout", csrf="").headers["location"] == LOGIN, "a log-out says nothing"
