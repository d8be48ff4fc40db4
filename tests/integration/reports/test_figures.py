"""The figures of the overview: their document, and when they are counted."""
# Owns figures.

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.domain.codes import Code, EventKind
from app.services.reports import figures
from app.services.reports.figures import FRESH_FOR
from app.storage import cards, journal, models
from app.storage.cards import NewCard
from app.storage.database import Database
from app.storage.journal import Entry
from tests.conftest import Clock

NOW = datetime(2026, 3, 1, 17, 0, tzinfo=UTC)  # in Shanghai it is 1 a.m. of the next day
SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY = timedelta(days=1)


pytestmark = pytest.mark.apart  # whole tables are counted


@pytest.fixture
def quick(database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    clock.now = NOW
    monkeypatch.setattr(figures, "QUICK_SECONDS", 3600.0)  # however busy the machine is


@pytest.fixture
def much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "QUICK_BYTES", -1)


def add(database: Database, number: int, expires_at: datetime | None = None, *, frozen: bool = False) -> None:
    activated = None if expires_at is None else expires_at - 30 * DAY
    frozen_at = NOW if frozen else None
    new = NewCard(f"{number:032}", 30 * DAY, None, None, activated, expires_at, frozen_at)
    list(cards.insert(database, [new], NOW))


def test_few_rows_are_counted_on_request(database: Database, quick: None) -> None:
    shown = figures.current(NOW, SHANGHAI)
    assert shown.counted_at == NOW
    assert shown.document["cards"] == {"total": 0, "spent": 0, "frozen": 0, "expired": 0, "active": 0, "unused": 0}
    add(database, 1)
    assert figures.current(NOW, SHANGHAI).document["cards"]["unused"] == 1
    (row,) = models.Figures.select()
    assert (row.counted_at, row.document) == (NOW, figures.current(NOW, SHANGHAI).document)


def test_cards_are_counted_by_the_day_of_their_expiry(database: Database, quick: None) -> None:
    midnight = datetime(2026, 3, 3, tzinfo=SHANGHAI)
    expiries = (NOW + timedelta(seconds=1), midnight - timedelta(seconds=1), midnight, midnight + 13 * DAY, NOW)
    for number, expires_at in enumerate(expiries):
        add(database, number, expires_at)
    add(database, 6, midnight, frozen=True)
    days = figures.current(NOW, SHANGHAI).document["expiring_days"]  # not the fifteenth, nor what is expired or frozen
    assert [day["day"] for day in days] == [f"2026-03-{number:02}" for number in range(2, 16)]
    assert [day["cards"] for day in days] == [2, 1] + [0] * 12


def test_rejections_are_counted_for_14_days_of_the_vendors_zone(quick: None) -> None:
    for ago in (timedelta(minutes=59), timedelta(minutes=61), 14 * DAY):
        journal.append([Entry(NOW - ago, EventKind.REJECTED, Code.CARD_EXPIRED, "A" * 32)])
    days = figures.current(NOW, SHANGHAI).document["rejection_days"]
    assert [day["day"] for day in days[-2:]] == ["2026-03-01", "2026-03-02"]
    assert [day["counts"] for day in days] == [*[{}] * 12, {"CARD_EXPIRED": 1}, {"CARD_EXPIRED": 1}]


def test_old_figures_are_shown_while_newer_ones_are_wanted(
    database: Database, quick: None, clock: Clock, much: None
) -> None:
    assert figures.current(clock.now, SHANGHAI) is None
    figures.count_if_wanted(clock.now, SHANGHAI)
    first = figures.current(clock.now, SHANGHAI)
    add(database, 1)
    clock.advance(FRESH_FOR)
    assert figures.current(clock.now, SHANGHAI).counted_at == first.counted_at
    figures.count_if_wanted(clock.now, SHANGHAI)
    assert figures.current(clock.now, SHANGHAI).counted_at == first.counted_at  # still fresh: nobody counts
    clock.advance(timedelta(seconds=1))
    figures.count_if_wanted(clock.now, SHANGHAI)
    assert figures.current(clock.now, SHANGHAI).counted_at == first.counted_at  # old, but nobody had looked
    figures.count_if_wanted(clock.now, SHANGHAI)
    newer = figures.current(clock.now, SHANGHAI)
    assert (newer.counted_at, newer.document["cards"]["unused"]) == (clock.now, 1)


def test_slow_counts_are_left_to_the_periodic_task(database: Database, quick: None, clock: Clock) -> None:
    first = figures.current(clock.now, SHANGHAI)
    models.Figures.update(seconds=3600.0).execute()
    add(database, 1)
    clock.advance(timedelta(seconds=1))
    assert figures.current(clock.now, SHANGHAI).counted_at == first.counted_at


def test_figures_from_the_future_are_old(quick: None, clock: Clock, much: None) -> None:
    figures.count(clock.now, SHANGHAI)
    clock.advance(-DAY)
    figures.current(clock.now, SHANGHAI)
    figures.count_if_wanted(clock.now, SHANGHAI)
    assert figures.current(clock.now, SHANGHAI).counted_at == NOW - DAY
