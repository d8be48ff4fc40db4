"""Log-ins from a new browser or network show at the operator's next log-in."""

from datetime import timedelta

import pytest

from app.storage.database import Database
from app.storage.models import Event
from tests.support.console import Browser, add_operator
from tests.support.log_ins import CAFE, HOME, LogIns
from tests.support.passwords import PASSWORD
from tests.support.service import Service

pytestmark = pytest.mark.nightly
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0"
AWAY = "203.0.113.9"


class People:
    """Who logs in to alice's account, each a minute after the other; `news` are the addresses that are shown."""

    def __init__(self, log_ins: LogIns) -> None:
        self.log_ins = log_ins
        self.news: list[tuple[str, list[str]]] = []

    def log_in(self, address: str = HOME, device: str | None = None) -> str:
        """Log in; return the browser's token."""
        self.log_ins.clock.advance(timedelta(minutes=1))
        sessions = self.log_ins.sessions
        logged_in = sessions.log_in("alice", PASSWORD, None, address=address, device=device, user_agent=FIREFOX)
        news = logged_in.news
        found = [] if news is None else sessions.new_log_ins(self.log_ins.alice, *news)
        self.news = [(each.address, each.new) for each in found]
        return logged_in.device_token


@pytest.fixture
def people(log_ins: LogIns) -> People:
    return People(log_ins)


def test_a_known_browser_is_told_of_log_ins_since_its_own_last(people: People) -> None:
    own = people.log_in()
    assert people.news == [], "the first log-in is not new"
    people.log_in(AWAY)
    people.log_in(HOME)
    people.log_in(HOME, own)
    assert people.news == [(HOME, ["browser"]), (AWAY, ["browser", "network"])]
    people.log_in(HOME, own)
    assert people.news == [], "once"


def test_a_stranger_who_logs_in_again_takes_the_notice_from_nobody(people: People) -> None:
    own = people.log_in()
    stranger = people.log_in(AWAY)
    people.log_in(AWAY, stranger)
    people.log_in(AWAY, stranger)
    people.log_in(HOME, own)
    assert people.news == [(AWAY, ["browser", "network"])]


def test_a_browser_that_forgets_is_told_of_the_last_log_in(people: People) -> None:
    people.log_in()
    people.log_in(AWAY)
    people.log_in()
    assert people.news == [(AWAY, ["browser", "network"])]
    people.log_in()
    assert people.news == [(HOME, ["browser"])], "its own, without a cookie"


def test_a_known_browser_in_another_network_is_new_once(people: People) -> None:
    own, second = people.log_in(), people.log_in()
    people.log_in(CAFE, own)
    people.log_in(CAFE.replace("::3", "::4"), own)
    assert people.news == []
    people.log_in(HOME, second)
    assert people.news == [(CAFE, ["network"])]
    entry = Event.select().where(Event.ip == CAFE).get()
    assert entry.details == {"new": ["network"], "browser": "Firefox, Windows"}


def test_a_former_operator_of_the_name_is_nobody(people: People) -> None:
    people.log_in()
    people.log_in(AWAY)
    operators = people.log_ins.operators
    operators.remove("alice", force=True)
    people.log_ins.clock.advance(timedelta(seconds=1))
    operators.add("alice", people.log_ins.alice.role, PASSWORD)
    people.log_in(CAFE)
    assert people.news == []
    assert Event.select().order_by(Event.id.desc()).get().details is None


def test_the_console_shows_them_before_it_goes_on(service: Service, database: Database) -> None:
    add_operator("olga")
    own = Browser(service, language="en").log_in("olga")
    stranger = Browser(service, language="en").log_in("olga")
    own.submit(own.get("/admin/"), "/admin/logout")
    login = own.get("/admin/login?next=%2Fadmin%2Fcards%3Fstatus%3Dunused")
    page = own.submit(login, "/admin/login", name="olga", password="correct horse battery staple")
    assert page.path.startswith("/admin/account/log-ins?since=")
    assert "127.0.0.1" in page.words
    assert "/admin/cards?status=unused" in page.links
    done = own.submit(page, "/admin/account/sessions")
    assert "You have been logged out everywhere else" in done.words
    assert stranger.get("/admin/account").status == 303


@pytest.mark.parametrize("since", ["", "yesterday", "9999-12-31T23:59:59-23:59"])
def test_a_time_of_another_form_is_refused(service: Service, database: Database, since: str) -> None:
    add_operator("olga")
    owner = Browser(service).walk_in("olga")
    assert owner.get(f"/admin/account/log-ins?since={since}&until=2026-01-01T00:00:00Z").status == 400
    assert owner.get("/admin/account/log-ins?since=2025-01-01T00:00:00Z&until=2026-01-01T00:00:00Z").status == 200
