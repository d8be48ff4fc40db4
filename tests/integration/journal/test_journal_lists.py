"""Lists of the journal and of usage, each read by an index."""
# Owns journal-lists.

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from app.domain.codes import Code, EventKind
from app.services.journal import journal_lists
from app.services.journal.journal_lists import JournalFilter
from app.services.reports.usage_lists import DEFAULT_DAYS, of_card, usage_page
from app.storage import journal
from app.storage.database import Database, connect_to
from app.storage.models import Event, Usage
from app.storage.paging import Cursor
from tests.support import sample_year
from tests.support.query_plans import plan, statements

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


def test_a_list_has_the_matching_entries_newest_first_both_ways(year: Database, all_events: list[Event]) -> None:
    for name, (wanted, _index) in FILTERS.items():
        right = expected(wanted, all_events)
        assert ids(list(journal_lists.every(wanted))) == right, name
        assert ids(journal_lists.page(wanted, limit=50).rows) == right[:50], name
        if right:
            middle = len(right) // 2
            place = Cursor.parse(str(journal_lists.cursor(Event.get_by_id(right[middle]))))
            assert ids(journal_lists.page(wanted, place, limit=50).rows) == right[middle + 1 :][:50], name
            assert ids(journal_lists.page(wanted, place, limit=50, backwards=True).rows) == right[:middle][-50:], name


def test_a_page_is_one_query_by_an_index(year: Database) -> None:
    for name, (wanted, index) in FILTERS.items():
        with statements(year) as ran:
            journal_lists.page(wanted, Cursor(NOW - 100 * DAY, "7"), limit=50)
        told = plan(year, *ran)
        assert (index in told, "Seq Scan" in told) == (True, False), (name, told)


def test_several_frequent_texts_are_searched_in_pieces(
    year: Database, all_events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_lists, "MAX_LOOKED", 60)
    days = {"since": NOW - 300 * DAY, "until": NOW}
    for wanted in [
        JournalFilter(network=NET, function=sample_year.FUNCTIONS[1]),
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


def test_a_page_of_several_texts_is_three_queries_by_indexes(year: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_lists, "MAX_LOOKED", 60)
    with statements(year) as ran:
        looked = journal_lists.page(JournalFilter(network=NET, function=sample_year.FUNCTIONS[1]), limit=50)
    assert (looked.rows, looked.stopped_at is None) == ([], False)
    assert len(ran) == 3, "the places of each text, the hits"
    assert not [told for told in map(plan, [year] * 3, ran) if "Seq Scan" in told]


def test_a_reference_finds_its_entry(year: Database, all_events: list[Event]) -> None:
    event = next(event for event in all_events if event.reference)
    assert ids(journal_lists.page(JournalFilter(reference=event.reference), limit=50).rows) == [event.id]
    other = JournalFilter(Code.CLIENT_MISMATCH if event.code != "CLIENT_MISMATCH" else Code.CARD_EXPIRED)
    assert journal_lists.page(replace(other, reference=event.reference), limit=50).rows == []
    with statements(year) as ran:
        journal_lists.page(JournalFilter(reference=event.reference), limit=50)
    assert "event_reference" in plan(year, ran[0])


def test_a_forged_cursor_does_no_harm(year: Database) -> None:
    for row_id in ["x", "9" * 40, "0"]:
        for at in (None, NOW, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
            for backwards in (False, True):
                journal_lists.page(JournalFilter(network=NET), Cursor(at, row_id), limit=5, backwards=backwards)


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


def test_usage_is_listed_newest_day_first_page_by_page(year: Database) -> None:
    for function, day in [(OPEN, None), (OPEN, TODAY - DAY), (None, TODAY), (None, None), ("nowhere", None)]:
        rows = [(row.day, row.function, row.card_id, row.count) for row in Usage.select()]
        right = sorted((row for row in rows if function in (None, row[1]) and day in (None, row[0])), reverse=True)
        seen: list[tuple[date, str, str, int]] = []
        after = None
        while page := usage_page(TODAY, function, day, after=after, limit=700):
            seen += [(row.day, row.function, row.card_id, row.count) for row in page]
            after = seen[-1][:3]
        assert seen == right, (function, day)


def test_older_usage_is_no_longer_listed_and_no_day_is_too_far(year: Database) -> None:
    for function in (None, OPEN):
        assert usage_page(TODAY + (DEFAULT_DAYS - 2) * DAY, function, limit=1)
        assert not usage_page(TODAY + DEFAULT_DAYS * DAY, function, limit=1)
        for day in (date.min, date.max):
            assert not usage_page(TODAY, function, day, after=(date.max, "x", "A"), limit=1)


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


def test_a_page_of_usage_is_one_query_by_the_index_of_days(year: Database) -> None:
    for function in (None, OPEN):
        with statements(year) as ran:
            usage_page(TODAY, function, after=(TODAY, OPEN, "5"), limit=50)
        told = plan(year, *ran)
        assert ("usage_day" in told, "Seq Scan" in told) == (True, False), function


def test_usage_of_a_card_is_by_day(year: Database) -> None:
    card_id = Usage.select().first().card_id
    found = of_card(card_id, TODAY - DAY)
    rows = Usage.select().where((Usage.card == card_id) & (Usage.day >= TODAY - DAY))
    assert list(found.items()) == sorted(((row.day, row.function), row.count) for row in rows)
    assert found
