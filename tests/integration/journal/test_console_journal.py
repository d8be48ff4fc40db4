"""The journal's page and its export, as an operator's browser sees them."""

import csv
import http.client
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import falcon
import pytest

from app.console.streaming import MAX_EXPORTS, send
from app.domain.codes import Code, EventKind
from app.storage import journal
from app.storage.database import Database
from app.storage.journal import Entry
from app.storage.models import Event
from tests.support.console.console import OWN, Browser, Seen, add_operator
from tests.support.services.service import Service, wait_for

NOON = datetime(2026, 3, 1, 4, 0, tzinfo=UTC)  # in Shanghai
CARD = "C" * 32
HOSTILE = '=cmd|\u202e"><script>alert(1)</script>\n' + "硬" * 900


def refused(reference: str, code: Code | None = Code.CLIENT_MISMATCH, **more: Any) -> Entry:
    entry = {"at": NOON, "card_id": CARD, "ip": "203.0.113.7", "hardware": "machine-1", "function": "打开程序"}
    return Entry(code=code, reference=reference, **{"kind": EventKind.REJECTED, **entry, **more})


@pytest.fixture
def owner(service: Service, database: Database) -> Browser:
    add_operator("alice")
    return Browser(service).walk_in("alice")


def references(page: Seen) -> list[str]:
    """The references of the entries that the page lists, in its order."""
    return re.findall(r'<a class="long reference" href="[^"]+">(\w+)</a>', page.text)


def test_times_are_the_vendors_and_an_invalid_filter_is_refused_and_stays_in_its_field(owner: Browser) -> None:
    entries = [("EVENT001", 0), ("EVENT002", 1), ("EVENT003", 2)]
    journal.append([refused(name, at=NOON + timedelta(minutes=minutes)) for name, minutes in entries])
    for query, found in [
        ({"until": "2026-03-01T12:02"}, ["EVENT002", "EVENT001"]),
        ({"since": "2026-03-02T03:59:30+23:59"}, ["EVENT003", "EVENT002"]),
        ({"before": "nonsense", "after": "..."}, ["EVENT003", "EVENT002", "EVENT001"]),
    ]:
        assert references(owner.get(f"/admin/journal?{urlencode(query)}")) == found, query
    page = owner.get(f"/admin/journal?card={CARD}&until=0001-01-01T00:00")
    fields = dict(page.form("/admin/journal").fields)
    assert (page.status, fields["card"], fields["until"]) == (400, CARD, "0001-01-01T00:00")
    assert "“0001-01-01T00:00”不是有效的日期时间" in page.words


def exported(owner: Browser, output: str, query: str = "") -> Seen:
    page = owner.get(f"/admin/journal{query}")
    asked = owner.submit(page, "/admin/journal/export", button=("format", output))
    return owner.submit(asked, "/admin/journal/export", OWN)


def test_the_export_has_the_matching_entries_and_is_journalled(owner: Browser) -> None:
    first = refused("EVENT001", hardware=HOSTILE, details={"detail": "=1"})
    journal.append([first, refused("EVENT002", Code.CARD_EXPIRED)])
    file = exported(owner, "json", "?kind=CLIENT_MISMATCH")
    assert file.headers["content-type"] == "application/json"
    assert re.fullmatch(r"attachment; filename\*=UTF-8''journal-\d{8}-\d{6}\.json", file.headers["content-disposition"])
    (entry,) = json.loads(file.content)
    told = entry["reference"], entry["hardware"], entry["at"]
    assert told == ("EVENT001", HOSTILE, "2026-03-01T12:00:00+08:00")
    (noted,) = Event.select().where(Event.kind == EventKind.EXPORTED)
    assert noted.actor == "console:alice"
    assert noted.details == {"what": "journal", "format": "json", "filter": {"kind": "CLIENT_MISMATCH"}}
    rows = csv.DictReader(io.StringIO(exported(owner, "csv", "?kind=CLIENT_MISMATCH").content.decode("utf-8-sig")))
    assert [row["details"] for row in rows] == ['{"detail": "=1"}']


class Download:
    """An export that is read as slowly as a test wants."""

    def __init__(self, service: Service, browser: Browser) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
        headers = {
            "Cookie": f"kadun_session={browser.cookie('kadun_session')}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        body = urlencode({"csrf": browser.csrf(), "format": "json", **OWN})
        self.connection.request("POST", "/admin/journal/export", body, headers)
        self.answer = self.connection.getresponse()

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


@pytest.fixture
def downloads(service: Service, owner: Browser, database: Database) -> Iterator[list[Download]]:
    """Exports of more than the buffers between the service and a reader hold."""
    database.execute_sql(
        """INSERT INTO event (at, kind, code, hardware) SELECT now(), 'rejected', 'CARD_NOT_FOUND', repeat('x', 1000)
           FROM generate_series(1, 20000)"""
    )
    opened = [Download(service, owner) for _ in range(5)]
    yield opened
    for download in opened:
        download.close()


def test_the_number_of_simultaneous_exports_is_limited_and_one_that_fails_midway_breaks_the_connection(
    database: Database, owner: Browser, downloads: list[Download]
) -> None:
    statuses = [download.answer.status for download in downloads]
    assert 2 <= statuses.count(200) <= 4  # two in each of two processes
    assert statuses.count(503) == 5 - statuses.count(200)
    under_way = next(download.answer for download in downloads if download.answer.status == 200)
    assert under_way.read(1000).startswith(b"[{")
    database.execute_sql("ALTER TABLE event RENAME COLUMN hardware TO gone")
    try:
        with pytest.raises(http.client.IncompleteRead):
            under_way.read()
    finally:
        database.execute_sql("ALTER TABLE event RENAME COLUMN gone TO hardware")
    for download in downloads:
        download.close()

    def all_are_let_through() -> bool:
        return all(
            owner.post("/admin/journal/export?kind=deleted", {"format": "json", **OWN}).status == 200 for _ in range(8)
        )

    wait_for(all_are_let_through)


def test_an_export_that_fails_at_once_frees_its_place() -> None:
    def broken() -> Iterator[str]:
        raise ValueError("no list")
        yield ""

    for _ in range(MAX_EXPORTS + 1):
        with pytest.raises(ValueError, match="no list"):
            send(falcon.Response(), broken(), output_format="json", name="list.json")
