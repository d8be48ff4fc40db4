"""The vendor's figures: `cardctl stats`, the document of the overview, and when it is counted."""
# Owns figures.

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.domain.codes import Code, Counted, EventKind
from app.services.reports import figures, statistics
from app.services.reports.figures import FRESH_FOR
from app.services.reports.statistics import collect
from app.storage import cards, journal, models
from app.storage.cards import NewCard
from app.storage.database import Database
from app.storage.journal import Entry
from app.storage.models import Card, Client, DailyCount, Usage
from tests.conftest import Clock
from tests.support.licence.bound_cards import CardState, write
from tests.support.query_plans import statements
from tests.support.services.service import Service

NOW = datetime(2026, 3, 1, 17, 0, tzinfo=UTC)  # in Shanghai it is 1 a.m. of the next day
SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY = timedelta(days=1)
TODAY = date(2026, 3, 2)
pytestmark = pytest.mark.apart  # whole tables are counted


def stats() -> dict[str, Any]:
    return collect(NOW, SHANGHAI)


def card(
    number: int, batch: str | None = None, expires_in: timedelta | None = None, *, frozen: bool = False
) -> NewCard:
    """A card, in use where it is to expire at some time."""
    start, end = (None, None) if expires_in is None else (NOW - 30 * DAY, NOW + expires_in)
    return NewCard(f"{number:032}", 30 * DAY, batch, f"note {number}", start, end, NOW if frozen else None)


def add(database: Database, *new_cards: NewCard) -> None:
    list(cards.insert(database, new_cards, NOW))


@pytest.fixture
def quick(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    clock.now = NOW
    monkeypatch.setattr(figures, "QUICK_SECONDS", 3600.0)  # however busy the machine is


@pytest.fixture
def much(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "QUICK_BYTES", -1)


def test_few_rows_are_counted_on_request(database: Database, quick: None) -> None:
    shown = figures.current(NOW, SHANGHAI)
    assert shown.counted_at == NOW
    assert shown.document["cards"] == {"total": 0, "spent": 0, "frozen": 0, "expired": 0, "active": 0, "unused": 0}
    add(database, card(1))
    assert figures.current(NOW, SHANGHAI).document["cards"]["unused"] == 1
    (row,) = models.Figures.select()
    assert (row.counted_at, row.document) == (NOW, figures.current(NOW, SHANGHAI).document)


def test_cards_are_counted_by_the_day_of_their_expiry(database: Database, quick: None) -> None:
    midnight, second = datetime(2026, 3, 3, tzinfo=SHANGHAI), timedelta(seconds=1)
    for number, expires_at in enumerate((NOW + second, midnight - second, midnight, midnight + 13 * DAY, NOW)):
        add(database, card(number, None, expires_at - NOW))
    add(database, card(6, None, midnight - NOW, frozen=True))
    days = figures.current(NOW, SHANGHAI).document["expiring_days"]  # not the fifteenth, nor what is expired or frozen
    assert [day["day"] for day in days] == [f"2026-03-{number:02}" for number in range(2, 16)]
    assert [day["cards"] for day in days] == [2, 1] + [0] * 12


def test_rejections_are_counted_for_14_days_of_the_vendors_zone(quick: None) -> None:
    for ago in (timedelta(minutes=59), timedelta(minutes=61), 14 * DAY):
        journal.append([Entry(NOW - ago, EventKind.REJECTED, Code.CARD_EXPIRED, "A" * 32)])
    days = figures.current(NOW, SHANGHAI).document["rejection_days"]
    assert [day["day"] for day in days[-2:]] == ["2026-03-01", "2026-03-02"]
    assert [day["counts"] for day in days] == [*[{}] * 12, {"CARD_EXPIRED": 1}, {"CARD_EXPIRED": 1}]


def test_old_figures_are_shown_while_newer_are_wanted(database: Database, clock: Clock, much: None) -> None:
    def shown_at() -> datetime:
        return figures.current(clock.now, SHANGHAI).counted_at

    assert figures.current(clock.now, SHANGHAI) is None
    figures.count_if_wanted(clock.now, SHANGHAI)
    first = shown_at()
    add(database, card(1))
    clock.advance(FRESH_FOR)
    assert shown_at() == first
    figures.count_if_wanted(clock.now, SHANGHAI)
    assert shown_at() == first, "still fresh: nobody counts"
    clock.advance(timedelta(seconds=1))
    figures.count_if_wanted(clock.now, SHANGHAI)
    assert shown_at() == first, "old, but nobody had looked"
    figures.count_if_wanted(clock.now, SHANGHAI)
    newer = figures.current(clock.now, SHANGHAI)
    assert (newer.counted_at, newer.document["cards"]["unused"]) == (clock.now, 1)


def test_slow_counts_are_left_to_the_periodic_task(database: Database, quick: None, clock: Clock) -> None:
    first = figures.current(clock.now, SHANGHAI)
    models.Figures.update(seconds=3600.0).execute()
    add(database, card(1))
    clock.advance(timedelta(seconds=1))
    assert figures.current(clock.now, SHANGHAI).counted_at == first.counted_at


def test_figures_from_the_future_are_old(quick: None, clock: Clock, much: None) -> None:
    figures.count(clock.now, SHANGHAI)
    clock.advance(-DAY)
    figures.current(clock.now, SHANGHAI)
    figures.count_if_wanted(clock.now, SHANGHAI)
    assert figures.current(clock.now, SHANGHAI).counted_at == NOW - DAY


def test_cards_are_counted_by_state_and_batch(database: Database) -> None:
    add(database, card(1, "b"), card(2, "b", DAY), card(3, "b", -DAY))
    add(database, card(4, None, DAY, frozen=True), card(5, None, -DAY, frozen=True))
    counted = stats()
    assert counted["cards"] == {"total": 5, "spent": 0, "frozen": 2, "expired": 1, "active": 1, "unused": 1}
    assert counted["batches"]["largest"] == [
        {"batch": "b", "cards": 3, "spent": 0, "frozen": 0, "expired": 1, "active": 1, "unused": 1},
        {"batch": None, "cards": 2, "spent": 0, "frozen": 2, "expired": 0, "active": 0, "unused": 0},
    ]


def test_no_more_rows_are_read_than_are_shown_however_many_batches_there_are(database: Database) -> None:
    with statements(database) as at_first:
        stats()
    add(database, *(card(n, f"b{n:03}", frozen=n % 2 == 0) for n in range(100)))
    add(database, *(card(n, "b050") for n in range(100, 103)))
    with statements(database) as ran:
        counted = stats()
    assert len(at_first) == len(ran) == 8
    assert (counted["batches"]["count"], counted["cards"]["unused"], counted["cards"]["frozen"]) == (100, 53, 50)
    largest = [batch["batch"] for batch in counted["batches"]["largest"]]
    assert largest == ["b050", *(f"b{n:03}" for n in range(9))], "the largest first"
    assert max(len(database.execute_sql(*statement).fetchall()) for statement in ran) == 10


def test_days_are_the_last_fourteen_of_the_vendors_zone_including_empty_ones(database: Database) -> None:
    add(database, card(1))
    midnight = datetime(2026, 3, 2, tzinfo=SHANGHAI)
    for at in (midnight, midnight - timedelta(seconds=1), midnight - 13 * DAY, midnight - 13 * DAY - DAY / 86_400):
        journal.append([Entry(at=at, kind=EventKind.ACTIVATED)])
    for back, function, count in ((0, "f", 3), (0, "g", 4), (13, "f", 5), (14, "f", 9)):
        day = TODAY - back * DAY
        Usage.insert(card=f"{1:032}", day=day, function=function, count=count, last_at=NOW).execute()
    counted = stats()
    assert [day["day"] for day in counted["days"]] == [str(TODAY - back * DAY) for back in range(13, -1, -1)]
    assert [day["activations"] for day in counted["days"]] == [1, *[0] * 11, 1, 1]
    assert [day["requests"] for day in counted["days"]] == [5, *[0] * 12, 7]
    assert counted["functions"] == [{"function": "f", "requests": 8}, {"function": "g", "requests": 4}]


def test_customers_are_cards_used_on_a_day_of_the_vendors_zone_and_in_the_last_minutes(database: Database) -> None:
    add(database, *(card(number, expires_in=DAY) for number in range(1, 5)))
    for number, back, function in ((1, 0, "f"), (1, 0, "g"), (2, 0, "f"), (3, 1, "f"), (3, 1, "g"), (1, 2, "f")):
        used = {"card": f"{number:032}", "day": TODAY - back * DAY, "function": function}
        Usage.insert(**used, count=9, last_at=NOW).execute()
    for number, minutes in ((1, 0), (2, 14), (3, 15)):
        machine, at = f"machine {number}", NOW - timedelta(minutes=minutes)
        told = {"hardware": machine, "hardware_sha256": sha256(machine.encode()).hexdigest(), "ip": "198.51.100.1"}
        Client.insert(id=f"{number:032}", card=f"{number:032}", requested_at=at, function="f", **told).execute()
    assert stats()["customers"] == {"online": 2, "today": 2, "yesterday": 1}
    Card.update(frozen_at=NOW).where(Card.id == f"{1:032}").execute()
    Card.update(expires_at=NOW).where(Card.id == f"{2:032}").execute()
    assert stats()["customers"]["online"] == 0


def test_rejections_are_counted_by_code_also_those_without_an_entry_at_the_time_of_the_last(database: Database) -> None:
    """The first hours of the last week are on the day before it in America."""
    for code, hours in ((Code.CARD_EXPIRED, 2), (Code.CARD_EXPIRED, 30), (Code.CARD_FROZEN, 169)):
        journal.append([Entry(at=NOW - timedelta(hours=hours), kind=EventKind.REJECTED, code=code)])
    counts = ((TODAY, 60, 1), (TODAY - DAY, 53, 25), (TODAY - DAY, 50, 26), (TODAY - 8 * DAY, 90, 200))
    for day, count, hours in (*counts, (TODAY - 8 * DAY, 61, 167)):
        at = NOW - timedelta(hours=hours)
        DailyCount.insert(card_id=f"{count:032}", day=day, kind="CLIENT_MISMATCH", count=count, last_at=at).execute()
    DailyCount.insert(card_id="0" * 32, day=TODAY, kind="hardware_changed", count=99, last_at=NOW).execute()
    assert stats()["rejections"] == [
        {"code": "CLIENT_MISMATCH", "last_24_hours": 10, "last_7_days": 24},
        {"code": "CARD_EXPIRED", "last_24_hours": 1, "last_7_days": 2},
    ]
    by_day = statistics.rejections_by_day(NOW - 3 * DAY, SHANGHAI)
    assert by_day == {
        TODAY: {"CLIENT_MISMATCH": 10},
        TODAY - DAY: {"CLIENT_MISMATCH": 3, "CARD_EXPIRED": 1},
        TODAY - 2 * DAY: {"CARD_EXPIRED": 1},
    }


def test_repeated_rejections_are_counted_beside_the_entries_of_their_places(database: Database) -> None:
    entry = Entry(NOW, EventKind.REJECTED, Code.CLIENT_MISMATCH, "0" * 32, counted=Counted.CLIENT_MISMATCH)
    written = [journal.append_rejection(replace(entry, hardware=name), TODAY) for name in "aabaa"]
    assert written == [True, False, True, False, False]
    assert stats()["rejections"] == [{"code": "CLIENT_MISMATCH", "last_24_hours": 5, "last_7_days": 5}]
    assert statistics.rejections_by_day(NOW - DAY, SHANGHAI) == {TODAY: {"CLIENT_MISMATCH": 5}}


def test_active_cards_that_expire_soon_are_named_the_first_first(database: Database) -> None:
    add(database, card(1, None, 7 * DAY), card(2, None, 7 * DAY + timedelta(seconds=1)))
    add(database, card(3, None, -DAY), card(4, None, DAY, frozen=True))
    add(database, *(card(n, "b", n * timedelta(minutes=1)) for n in range(20, 9, -1)))
    expiring = stats()["expiring"]
    assert expiring["count"] == 12
    assert [int(row["id"]) for row in expiring["first"]] == list(range(10, 20))


def test_the_document_has_its_documented_shape(offline: Service) -> None:
    now = datetime.now(UTC)
    used = ((now.astimezone(SHANGHAI).date(), "f\x1b"),)
    (card_id,) = write([CardState(expires_in=DAY, functions=used)], now)
    journal.append([Entry(now, EventKind.ACTIVATED, card_id=card_id)])
    printed = offline.cardctl("stats", "--format", "json").stdout
    document = json.loads(printed)
    assert list(document) == ["at", "cards", "batches", "days", "customers", "rejections", "expiring", "functions"]
    assert set(document["batches"]) == {"count", "largest"}
    assert sum(day["activations"] for day in document["days"]) == 1
    (first,) = document["expiring"]["first"]
    assert (set(first), first["id"]) == ({"id", "expires_at", "batch", "note"}, card_id)
    assert [row["function"] for row in document["functions"]] == ["f\x1b"]
    tables = offline.cardctl("stats").stdout
    assert card_id in tables
    assert re.search(r"总数 total\s+已续费 spent\s+冻结 frozen\s+到期 expired\s+使用中 active\s+未激活 unused", tables)
    assert ("f\\x1b" in tables, "\x1b" in printed + tables) == (True, False)
