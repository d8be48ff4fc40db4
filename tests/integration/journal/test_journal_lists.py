"""Lists of the journal and of usage, each read by an index, and the journal's page and export in the console."""
# Owns journal-lists.

import contextlib
import csv
import http.client
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from app.domain.codes import Code, EventKind
from app.services.journal import journal_lists
from app.services.journal.journal_lists import JournalFilter
from app.services.reports.usage_lists import DEFAULT_DAYS, of_card, usage_page
from app.storage import journal
from app.storage.database import Database, connect_to
from app.storage.journal import Entry
from app.storage.models import Event, Usage
from app.storage.paging import Cursor
from tests.support import sample_year
from tests.support.console.console import OWN, Browser, Seen, add_operator
from tests.support.query_plans import plan, statements
from tests.support.services.service import Service, wait_for

NOW = datetime.now(UTC)
TODAY = NOW.date()
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def all_events(year_url: str) -> list[Event]:
    connected = connect_to(Database(year_url))
    with connected.connection_context():
        return list(Event.select())


NET, MACHINE, OPEN = sample_year.HOT_NETWORK, sample_year.HOT_HARDWARE, sample_year.FUNCTIONS[0]
SOME_CARD = "10000000000000001000000000000000"
FILTERS = {
    "all": (JournalFilter(), "event_at"),
    "a kind": (JournalFilter(EventKind.ACTIVATED), "event_what"),
    "all rejections": (JournalFilter(EventKind.REJECTED), "event_what"),
    "a code of one, long ago": (JournalFilter(Code.FUNCTION_TIMEOUT), "event_what"),
    "a card and a code": (JournalFilter(Code.CARD_EXPIRED, card_id=SOME_CARD), "event_card"),
    "an address, rejections": (JournalFilter(EventKind.REJECTED, network=NET), "event_network"),
    "a machine and a code": (JournalFilter(Code.CARD_NOT_FOUND, hardware=MACHINE), "event_hardware"),
    "an operator": (JournalFilter(actor="console:owner"), "event_actor"),
    "a function and a rare code": (JournalFilter(Code.FUNCTION_TIMEOUT, function=OPEN), "event_"),
    "a function": (JournalFilter(function=OPEN), "event_function"),
    "some days": (JournalFilter(since=NOW - 10 * DAY, until=NOW - 5 * DAY), "event_at"),
}


def expected(wanted: JournalFilter, events: list[Event]) -> list[int]:
    """The list, by the words of the filter."""
    equal = {name: getattr(wanted, name) for name in ("card_id", "hardware", "actor", "function", "reference")}
    found = [
        (event.at, event.id)
        for event in events
        if (wanted.kind is None or wanted.kind in (event.kind, event.code))
        and all(value is None or getattr(event, name) == value for name, value in equal.items())
        and (wanted.network is None or event.ip_network == wanted.network)
        and (wanted.since is None or event.at >= wanted.since)
        and (wanted.until is None or event.at < wanted.until)
    ]
    return [event_id for _at, event_id in sorted(found, reverse=True)]


def ids(events: list[Event]) -> list[int]:
    return [event.id for event in events]


def test_a_list_has_the_matching_entries_in_order_by_one_index(year: Database, all_events: list[Event]) -> None:
    for name, (wanted, index) in FILTERS.items():
        right = expected(wanted, all_events)
        assert ids(list(journal_lists.every(wanted))) == right, name
        assert ids(journal_lists.page(wanted, limit=50).rows) == right[:50], name
        if right:
            middle = len(right) // 2
            place = Cursor.parse(str(journal_lists.cursor(Event.get_by_id(right[middle]))))
            assert ids(journal_lists.page(wanted, place, limit=50).rows) == right[middle + 1 :][:50], name
            assert ids(journal_lists.page(wanted, place, limit=50, backwards=True).rows) == right[:middle][-50:], name
        with statements(year) as ran:
            journal_lists.page(wanted, Cursor(NOW - 100 * DAY, "7"), limit=50)
        told = plan(year, *ran)
        assert (index in told, "Seq Scan" in told) == (True, False), (name, told)


def test_long_searches_go_by_pieces(year: Database, all_events: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_lists, "MAX_LOOKED", 60)
    days = {"since": NOW - 300 * DAY, "until": NOW}
    rare = JournalFilter(network=NET, function=sample_year.FUNCTIONS[1])
    with statements(year) as ran:
        looked = journal_lists.page(rare, limit=50)
    assert (looked.rows, looked.stopped_at is None) == ([], False)
    assert len(ran) == 3, "the places of each text, the hits"
    assert not [told for told in map(plan, [year] * 3, ran) if "Seq Scan" in told]
    for wanted in [
        rare,
        JournalFilter(hardware=MACHINE, network=NET, function="nowhere"),
        JournalFilter(Code.CARD_NOT_FOUND, hardware=MACHINE, network=NET, function=OPEN, **days),
    ]:
        for backwards in [False, True]:
            right = expected(wanted, all_events)
            after = Cursor(datetime.min.replace(tzinfo=UTC), "0") if backwards else None
            seen: list[int] = []
            while True:
                rows, stopped_at = journal_lists.page(wanted, after, limit=7, backwards=backwards)
                assert ids(rows) == sorted(ids(rows), key=right.index), (wanted, backwards)
                seen = ids(rows) + seen if backwards else seen + ids(rows)
                if len(rows) < 7 and stopped_at is None:
                    break
                after = stopped_at or journal_lists.cursor(rows[0] if backwards else rows[-1])
            assert seen == right, (wanted, backwards)


def test_a_reference_finds_its_entry(year: Database, all_events: list[Event]) -> None:
    event = next(event for event in all_events if event.reference)
    assert ids(journal_lists.page(JournalFilter(reference=event.reference), limit=50).rows) == [event.id]
    other = JournalFilter(Code.CLIENT_MISMATCH if event.code != "CLIENT_MISMATCH" else Code.CARD_EXPIRED)
    assert journal_lists.page(replace(other, reference=event.reference), limit=50).rows == []
    with statements(year) as ran:
        journal_lists.page(JournalFilter(reference=event.reference), limit=50)
    assert "event_reference" in plan(year, ran[0])


def test_a_forged_cursor_does_no_harm_and_no_day_is_too_far(year: Database) -> None:
    for row_id in ["x", "9" * 40, "0"]:
        for at in (None, NOW, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
            for backwards in (False, True):
                journal_lists.page(JournalFilter(network=NET), Cursor(at, row_id), limit=5, backwards=backwards)
    for function in (None, OPEN):
        assert usage_page(TODAY + (DEFAULT_DAYS - 2) * DAY, function, limit=1)
        assert not usage_page(TODAY + DEFAULT_DAYS * DAY, function, limit=1), "older usage is no longer listed"
        for day in (date.min, date.max):
            assert not usage_page(TODAY, function, day, after=(date.max, "x", "A"), limit=1)


def test_every_kind_of_event_is_in_the_list_of_a_card_once_also_of_the_same_moment(database: Database) -> None:
    kinds = [kind for kind in EventKind if kind is not EventKind.REJECTED]
    rejections = [code for code in Code if code is not Code.OK]
    journal.append([journal.Entry(at=NOW, kind=kind, card_id="A" * 32) for kind in kinds])
    journal.append([journal.Entry(NOW, EventKind.REJECTED, code, card_id="A" * 32) for code in rejections])
    events: list[Event] = []
    after = None
    while page := journal_lists.page(JournalFilter(card_id="A" * 32), after, limit=5).rows:
        events += page
        after = journal_lists.cursor(page[-1])
    assert ids(events) == list(range(len(kinds + rejections), 0, -1))
    assert sorted(event.code or event.kind for event in events) == sorted(map(str, kinds + rejections))


def test_usage_is_listed_newest_day_first_by_an_index(year: Database) -> None:
    for function, day in [(OPEN, None), (OPEN, TODAY - DAY), (None, TODAY), (None, None), ("nowhere", None)]:
        rows = [(row.day, row.function, row.card_id, row.count) for row in Usage.select()]
        right = sorted((row for row in rows if function in (None, row[1]) and day in (None, row[0])), reverse=True)
        seen: list[tuple[date, str, str, int]] = []
        after = None
        while page := usage_page(TODAY, function, day, after=after, limit=700):
            seen += [(row.day, row.function, row.card_id, row.count) for row in page]
            after = seen[-1][:3]
        assert seen == right, (function, day)
    for function in (None, OPEN):
        with statements(year) as ran:
            usage_page(TODAY, function, after=(TODAY, OPEN, "5"), limit=50)
        told = plan(year, *ran)
        assert ("usage_day" in told, "Seq Scan" in told) == (True, False), function


def test_usage_of_a_card_is_listed_by_an_index(year: Database) -> None:
    card_id = Usage.select().first().card_id
    rows = [(row.day, row.function, row.card_id) for row in Usage.select().where(Usage.card == card_id)]
    for function, day in ((None, None), (OPEN, None), (None, TODAY - DAY), (OPEN, TODAY)):
        wanted = (TODAY, function, day, card_id)
        right = sorted((row for row in rows if function in (None, row[1]) and day in (None, row[0])), reverse=True)
        with statements(year) as ran:
            page = usage_page(*wanted, limit=50)
        assert [(row.day, row.function, row.card_id) for row in page] == right, wanted
        told = plan(year, ran[0])
        assert ("Seq Scan" in told, function or "usage_pkey" in told) == (False, function or True), wanted
        for place in right:
            after = usage_page(*wanted, after=place, limit=50)
            assert [(row.day, row.function, row.card_id) for row in after] == [row for row in right if row < place]
    recent = Usage.select().where((Usage.card == card_id) & (Usage.day >= TODAY - DAY))
    found = list(of_card(card_id, TODAY - DAY).items())
    assert found == sorted(((row.day, row.function), row.count) for row in recent) != []


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


def test_the_export_has_the_matching_entries_and_is_journalled(owner: Browser) -> None:
    first = refused("EVENT001", hardware=HOSTILE, details={"detail": "=1"})
    journal.append([first, refused("EVENT002", Code.CARD_EXPIRED)])
    file = exported(owner, "json")
    assert file.headers["content-type"] == "application/json"
    assert re.fullmatch(r"attachment; filename\*=UTF-8''journal-\d{8}-\d{6}\.json", file.headers["content-disposition"])
    (entry,) = json.loads(file.content)
    told = entry["reference"], entry["hardware"], entry["at"]
    assert told == ("EVENT001", HOSTILE, "2026-03-01T12:00:00+08:00")
    (noted,) = Event.select().where(Event.kind == EventKind.EXPORTED)
    assert noted.actor == "console:alice"
    assert noted.details == {"what": "journal", "format": "json", "filter": {"kind": "CLIENT_MISMATCH"}}
    rows = csv.DictReader(io.StringIO(exported(owner, "csv").content.decode("utf-8-sig")))
    assert [row["details"] for row in rows] == ['{"detail": "=1"}']


@pytest.fixture
def downloads(service: Service, owner: Browser, database: Database) -> Iterator[list[http.client.HTTPResponse]]:
    """Exports of more than the buffers between the service and a reader hold, of which nothing is read yet."""
    database.execute_sql(
        """INSERT INTO event (at, kind, code, hardware) SELECT now(), 'rejected', 'CARD_NOT_FOUND', repeat('x', 1000)
           FROM generate_series(1, 20000)"""
    )
    body = urlencode({"csrf": owner.csrf(), "format": "json", **OWN})
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Connection": "close"}
    headers["Cookie"] = f"kadun_session={owner.cookie('kadun_session')}"
    with contextlib.ExitStack() as opened:
        answers = []
        for _ in range(5):
            connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
            opened.callback(connection.close)
            connection.request("POST", "/admin/journal/export", body, headers)
            answers.append(opened.enter_context(contextlib.closing(connection.getresponse())))
        yield answers


def test_simultaneous_exports_are_limited_and_a_failure_midway_breaks_the_connection(
    database: Database, owner: Browser, downloads: list[http.client.HTTPResponse]
) -> None:
    statuses = [answer.status for answer in downloads]
    assert 2 <= statuses.count(200) <= 4  # two in each of two processes
    assert statuses.count(503) == 5 - statuses.count(200)
    under_way = next(answer for answer in downloads if answer.status == 200)
    assert under_way.read(1000).startswith(b"[{")
    database.execute_sql("ALTER TABLE event RENAME COLUMN hardware TO gone")
    try:
        with pytest.raises(http.client.IncompleteRead):
            under_way.read()
    finally:
        database.execute_sql("ALTER TABLE event RENAME COLUMN gone TO hardware")
    for answer in downloads:
        answer.close()
    form = ("/admin/journal/export?kind=deleted", {"format": "json", **OWN})
    wait_for(lambda: all(owner.post(*form).status == 200 for _ in range(8)))


def exported(owner: Browser, output: str) -> Seen:
    page = owner.get("/admin/journal?kind=CLIENT_MISMATCH")
    asked = owner.submit(page, "/admin/journal/export", button=("format", output))
    return owner.submit(asked, "/admin/journal/export", OWN)
