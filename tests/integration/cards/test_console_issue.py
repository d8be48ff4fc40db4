"""Issuing cards in the console, and what sellers may see of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pyotp

from app.domain.codes import EventKind
from app.domain.operators.ceilings import Ceilings
from app.runtime.clock import utc_now
from app.services.cards.card_actions import CardActions
from app.services.journal import journal_lists
from app.services.operators.ceilings import set_ceilings
from app.storage import journal, models
from app.storage.cards import Owner
from app.storage.database import Database
from app.storage.models import Card, Event, File, FileBatch, Operator
from tests.support.console.console import OWN, Browser, Seen
from tests.support.query_plans import plan, statements

ISSUE = "/admin/cards/issue"


def issue(browser: Browser, **fields: str) -> Seen:
    return browser.submit(browser.get(ISSUE), ISSUE, fields)


def keys(page: Seen) -> list[str]:
    start = page.text.index("<textarea")
    return page.text[page.text.index(">", start) + 1 : page.text.index("</textarea>")].split()


def download(browser: Browser, page: Seen, output: str) -> Seen:
    (link,) = [link for link in page.links if f"format={output}" in link]
    return browser.get(link)


def test_cards_whose_batch_was_changed_are_still_of_their_issue(seller: Browser, database: Database) -> None:
    page = issue(seller, validity="90d", count="2", batch="A")
    CardActions(database, "tester", utc_now).edit(keys(page)[:1], {"batch": "B"})
    assert sorted(download(seller, page, "txt").text.split()) == sorted(keys(page))


def test_a_refused_form_says_why_and_keeps_its_fields(seller: Browser) -> None:
    for fields in ({"count": "10001"}, {"validity": "365d", "validity_other": "1d"}, {"batch": "x" * 201}):
        page = issue(seller, **{"batch": "双十一", **fields})
        assert (page.status, 'role="alert"' in page.text, Card.select().count()) == (400, True, 0), fields
        kept = dict(page.form(ISSUE).fields)
        assert (kept["batch"], kept["count"]) == (fields.get("batch", "双十一"), fields.get("count", "1"))


def test_a_large_issue_asks_for_the_password_and_the_code(seller: Browser) -> None:
    assert "已发出 100 张" in issue(seller, count="100").words
    app = pyotp.TOTP(pyotp.random_base32())
    Operator.update(totp_secret=app.secret).execute()
    asked = issue(seller, count="101", batch="双十一")
    assert (asked.status, "一次发出超过 100 张" in asked.words) == (200, True)
    assert dict(asked.form(ISSUE).fields)["batch"] == "双十一"
    for wrong in ({"own_password": "guess"}, OWN, {**OWN, "own_code": "000000"}):
        assert seller.submit(asked, ISSUE, wrong).status == 400
    assert Card.select().count() == 100
    form = {**OWN, "own_code": app.at(datetime.now(UTC))}
    page = seller.submit(asked, ISSUE, form)
    assert "已发出 101 张" in page.words
    assert seller.submit(asked, ISSUE, form).path == page.path, "the same form again, although its code was used"
    assert Card.select().count() == 201


def test_a_seller_sees_only_what_they_issued_themselves(owner: Browser, seller: Browser) -> None:
    owners, sellers = issue(owner, count="3", batch="老板的"), issue(seller, count="2", batch="小李的")
    assert seller.get(owners.path).status == seller.get(f"{owners.path}&format=txt").status == 404
    assert len(keys(owner.get(sellers.path))) == 2
    page = seller.get(ISSUE)
    assert ("小李的" in page.words, "老板的" in page.words) == (True, False)
    assert "console:小李" in owner.get(ISSUE).words


def test_a_session_alone_downloads_no_large_issue_of_the_past_or_of_another(owner: Browser, seller: Browser) -> None:
    page = issue(seller, count="101", **OWN)
    assert len(keys(page)) == 101
    assert len(download(seller, page, "txt").text.split()) == 101, "what was just issued"
    for browser in (owner, seller):
        if browser is seller:
            earlier = Event.get(Event.kind == EventKind.ISSUED).at - timedelta(hours=1)
            move_in_time(earlier)
        at = Event.get(Event.kind == EventKind.ISSUED).at
        path = f"/admin/cards/issued?{urlencode({'at': at.isoformat()})}"
        past = browser.get(path)
        assert len(keys(past)) == 100
        assert not [link for link in past.links if "format=" in link]
        assert browser.get(f"{path}&format=txt").status == 303, "it leads to the page"
        asked = browser.post(path, {"format": "txt"})
        assert "您的密码" in asked.words
        assert not any(card.id in asked.text for card in Card.select())
        assert browser.post(path, {"format": "txt", "own_password": "wrong"}).status == 400
        assert browser.post(path, {"format": "json", **OWN}).status == 400
        assert len(browser.post(path, {"format": "txt", **OWN}).text.split()) == 101
    exported = Event.select().where(Event.kind == EventKind.EXPORTED).order_by(Event.id)
    assert [event.actor for event in exported] == ["console:老王", "console:小李"]


def move_in_time(at: datetime) -> None:
    """Make the only issue one of another time, with its cards; the journal itself forbids that."""
    models.database.execute_sql("ALTER TABLE event DISABLE TRIGGER USER")
    Event.update(at=at).where(Event.kind == EventKind.ISSUED).execute()
    models.database.execute_sql("ALTER TABLE event ENABLE TRIGGER USER")
    Card.update(created_at=at).execute()


def test_recent_issues_leave_out_those_of_shops(owner: Browser, seller: Browser, database: Database) -> None:
    issue(owner, batch="老板的")
    now = datetime.now(UTC)
    details = {"count": 1, "batch": "店铺的", "validity": "30d"}
    entry = journal.Entry(now + timedelta(seconds=1), EventKind.ISSUED, actor="shop:淘宝", details=details)
    journal.append([*[entry] * 20, replace(entry, actor="cardctl:root", details={**details, "batch": "命令行的"})])
    page = owner.get(ISSUE)
    assert [batch in page.words for batch in ("老板的", "命令行的", "店铺的")] == [True, True, False]
    with statements(database) as ran:
        journal_lists.issued_by_hand(10)
    for method in ("seqscan", "bitmapscan", "sort"):  # few rows: other tests' statistics decide otherwise
        database.execute_sql(f"SET enable_{method} = off")
    assert "using event_issued_by_hand" in plan(database, ran[0])


def test_a_seller_issues_within_their_ceilings_and_sees_them(seller: Browser) -> None:
    assert "您的发卡上限" not in seller.get(ISSUE).words, "as of an account from before there were ceilings"
    set_ceilings(Owner(Operator.get(Operator.name == "小李").id), Ceilings(10, timedelta(days=30)))
    issue(seller, count="4")
    File.insert(name="a", size=1, sha256="0" * 64, added_at=utc_now()).execute()
    FileBatch.insert(file="a", batch="专业版").execute()
    assert "您的发卡上限：每天 10 张，有效期最长 30 天；今天已发 4" in seller.get(ISSUE).words
    for fields, reason in (({"count": "7"}, "今天还可发 6 张"), ({"batch": "专业版"}, "有文件仅供批次“专业版”")):
        page = issue(seller, **fields)
        assert (page.status, reason in page.words) == (400, True), page.words
    assert "已发出 6 张" in issue(seller, count="6").words
    assert Card.select().count() == 10
