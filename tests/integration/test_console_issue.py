"""Issuing cards in the console, and what sellers may see of it."""

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from app.domain.codes import EventKind
from app.storage import journal, journal_lists
from app.storage.database import Database
from app.storage.models import Card, Event
from tests.support.console import Browser, Seen
from tests.support.query_plans import plan, statements

ISSUE = "/admin/cards/issue"


def issue(browser: Browser, **fields: str) -> Seen:
    return browser.submit(browser.get(ISSUE), ISSUE, fields)


def keys(page: Seen) -> list[str]:
    """The keys in the text area, as a person copies them."""
    start = page.text.index("<textarea")
    return page.text[page.text.index(">", start) + 1 : page.text.index("</textarea>")].split()


def download(browser: Browser, page: Seen, output: str) -> Seen:
    (link,) = [link for link in page.links if f"format={output}" in link]
    return browser.get(link)


def test_a_batch_is_issued_shown_and_downloaded(seller: Browser) -> None:
    page = issue(seller, validity="90d", count="12", batch=" 双十一 ", note="=淘宝")
    assert urlsplit(page.path).path == "/admin/cards/issued"
    assert "已发出 12 张" in page.words
    cards = {card.id: card for card in Card.select()}
    assert sorted(keys(page)) == sorted(cards)
    assert {(card.validity, card.batch, card.note) for card in cards.values()} == {
        (timedelta(days=90), "双十一", "=淘宝")
    }
    assert Event.get(Event.kind == EventKind.ISSUED).actor == "console:小李"
    assert download(seller, page, "txt").text.split() == keys(page)
    answer = download(seller, page, "csv")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [row["id"] for row in rows] == keys(page)
    assert {(row["validity_seconds"], row["batch"], row["note"]) for row in rows} == {("7776000", "双十一", "'=淘宝")}
    assert answer.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("fields", "validity"),
    [
        ({}, timedelta(days=30)),
        ({"validity": "permanent"}, None),
        ({"validity": "other", "validity_other": "36h"}, timedelta(hours=36)),
        ({"validity": "other", "validity_other": "季卡"}, timedelta(days=90)),
        ({"validity": "365d", "validity_other": "年卡"}, timedelta(days=365)),
    ],
)
def test_a_validity_is_a_preset_or_typed(seller: Browser, fields: dict[str, str], validity: timedelta | None) -> None:
    assert issue(seller, **fields).status == 200
    assert Card.get().validity == validity


@pytest.mark.parametrize(
    "fields",
    [
        {"count": "0"},
        {"count": "10001"},
        {"count": "-1"},
        {"count": "1e3"},
        {"count": "１２"},
        {"count": "9" * 5000},
        {"validity": "other", "validity_other": "30"},
        {"validity": "other", "validity_other": ""},
        {"validity": "odd"},
        {"validity": "365d", "validity_other": "1d"},
        {"validity": "", "validity_other": "1d"},
        {"validity": "permanent", "validity_other": "x"},
        {"validity": "36501d"},
        {"batch": "x" * 201},
        {"note": "a\u202eb"},
    ],
)
def test_a_refused_form_says_why_and_keeps_its_fields(seller: Browser, fields: dict[str, str]) -> None:
    page = issue(seller, **{"batch": "双十一", **fields})
    assert page.status == 400
    assert 'role="alert"' in page.text
    assert Card.select().count() == 0
    kept = dict(page.form(ISSUE).fields)
    assert kept["batch"] == fields.get("batch", "双十一")
    assert kept["count"] == fields.get("count", "1")


def test_a_form_issues_up_to_ten_thousand_cards(owner: Browser) -> None:
    page = issue(owner, count="10000", validity="permanent")
    assert "已发出 10,000 张" in page.words
    assert len(set(keys(page))) == 10_000


def test_a_seller_sees_only_what_they_issued_themselves(owner: Browser, seller: Browser) -> None:
    owners, sellers = issue(owner, count="3", batch="老板的"), issue(seller, count="2", batch="小李的")
    assert seller.get(owners.path).status == 404
    assert seller.get(f"{owners.path}&format=txt").status == 404
    assert len(keys(owner.get(sellers.path))) == 2
    page = seller.get(ISSUE)
    assert "小李的" in page.words
    assert "老板的" not in page.words
    assert "小李的" in owner.get(ISSUE).words
    assert "console:小李" in owner.get(ISSUE).words


def test_recent_issues_leave_out_those_of_shops(owner: Browser, seller: Browser, database: Database) -> None:
    issue(owner, batch="老板的")
    now = datetime.now(UTC)
    details = {"count": 1, "batch": "店铺的", "validity": "30d"}
    entries = [
        journal.Entry(now + timedelta(seconds=n), EventKind.ISSUED, actor="shop:淘宝", details=details)
        for n in range(20)
    ]
    journal.append([*entries, replace(entries[0], actor="cardctl:root", details={**details, "batch": "命令行的"})])
    page = owner.get(ISSUE)
    assert "老板的" in page.words
    assert "命令行的" in page.words
    assert "店铺的" not in page.words
    with statements(database) as ran:
        journal_lists.issued_by_hand(10)
    for method in ("seqscan", "bitmapscan", "sort"):  # few rows: other tests' statistics decide otherwise
        database.execute_sql(f"SET enable_{method} = off")
    assert "using event_issued_by_hand" in plan(database, ran[0])


def test_a_csv_without_cards_has_its_header(owner: Browser) -> None:
    page = issue(owner, count="1")
    Card.delete().execute()
    assert download(owner, page, "csv").content.decode("utf-8-sig") == "id,validity_seconds,batch,note\n"


def test_cards_deleted_since_the_issue_are_mentioned(owner: Browser) -> None:
    page = issue(owner, count="3")
    Card.delete().where(Card.id == keys(page)[0]).execute()
    again = owner.get(page.path)
    assert len(keys(again)) == 2
    assert "这里列出其中 2 张" in again.words


@pytest.mark.parametrize("at", ["", "x", "2026-01-01T00:00:00%2B00:00", "9999-12-31"])
def test_a_time_when_nothing_was_issued_is_not_found(owner: Browser, at: str) -> None:
    issue(owner)
    assert owner.get(f"/admin/cards/issued?at={at}").status in {400, 404}
