"""The figures of the overview: their document, and counting in the background."""

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg2
import pytest

from app.domain.codes import Code, EventKind
from app.services import figures
from app.services.figures import FRESH_FOR, Figures, Snapshot
from app.storage import cards, journal, models
from app.storage import figures as stored
from app.storage.cards import NewCard
from app.storage.database import Database
from app.storage.journal import Entry
from tests.conftest import Clock
from tests.support.service import wait_for

NOW = datetime(2026, 3, 1, 17, 0, tzinfo=UTC)  # in Shanghai it is 1 a.m. of the next day
SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY = timedelta(days=1)


@pytest.fixture
def counted(database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Figures]:
    clock.now = NOW
    monkeypatch.setattr(figures, "QUICK_SECONDS", 3600.0)  # however busy the machine is
    yield Figures(database, clock, SHANGHAI)
    wait_for(nobody_counts)  # a last look may have begun a count, which would find the next test's empty tables


@pytest.fixture
def much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "QUICK_BYTES", -1)


def add(database: Database, number: int, expires_at: datetime | None = None, *, frozen: bool = False) -> None:
    activated = None if expires_at is None else expires_at - 30 * DAY
    frozen_at = NOW if frozen else None
    new = NewCard(f"{number:032}", 30 * DAY, None, None, activated, expires_at, frozen_at)
    list(cards.insert(database, [new], NOW))


def reject(code: Code, ago: timedelta, card: str = "A", hardware: str = "h") -> None:
    journal.append([Entry(NOW - ago, EventKind.REJECTED, code, card * 32, ip="198.51.100.7", hardware=hardware)])


def test_few_rows_are_counted_on_request(database: Database, counted: Figures) -> None:
    shown = counted.current()
    assert shown == Snapshot(NOW, shown.document)
    assert shown.document["cards"] == {"total": 0, "spent": 0, "frozen": 0, "expired": 0, "active": 0, "unused": 0}
    add(database, 1)
    assert counted.current().document["cards"]["unused"] == 1
    (row,) = models.Figures.select()
    assert (row.counted_at, row.document) == (NOW, counted.current().document)


def test_cards_are_counted_by_the_day_of_their_expiry(database: Database, counted: Figures) -> None:
    midnight = datetime(2026, 3, 3, tzinfo=SHANGHAI)
    add(database, 1, NOW + timedelta(seconds=1))
    add(database, 2, midnight - timedelta(seconds=1))
    add(database, 3, midnight)
    add(database, 4, midnight + 13 * DAY)  # the fifteenth day
    add(database, 5, NOW)  # expired
    add(database, 6, midnight, frozen=True)
    days = counted.current().document["expiring_days"]
    assert [day["day"] for day in days] == [f"2026-03-{number:02}" for number in range(2, 16)]
    assert [day["cards"] for day in days] == [2, 1] + [0] * 12


def test_rejections_are_counted_by_day_and_code(counted: Figures) -> None:
    reject(Code.CARD_EXPIRED, timedelta(0))
    reject(Code.CARD_EXPIRED, timedelta(minutes=59))
    reject(Code.CARD_EXPIRED, timedelta(minutes=61))
    reject(Code.CLIENT_MISMATCH, timedelta(minutes=61))
    reject(Code.CLIENT_MISMATCH, 14 * DAY)
    days = counted.current().document["rejection_days"]
    assert len(days) == 14
    assert days[-1] == {"day": "2026-03-02", "counts": {"CARD_EXPIRED": 2}}
    assert days[-2] == {"day": "2026-03-01", "counts": {"CARD_EXPIRED": 1, "CLIENT_MISMATCH": 1}}
    assert all(day["counts"] == {} for day in days[:-2])


def test_old_figures_are_shown_while_new_ones_are_counted(
    database: Database, counted: Figures, clock: Clock, much: None
) -> None:
    counted.current()
    first = wait_for(counted.current)
    add(database, 1)
    clock.advance(FRESH_FOR)
    assert counted.current() == first
    assert models.Figures.get().counted_at == NOW  # still fresh: nobody counts
    clock.advance(timedelta(seconds=1))
    assert counted.current() == first
    newer = wait_for(lambda: (shown := counted.current()) != first and shown)
    assert (newer.at, newer.document["cards"]["unused"]) == (clock.now, 1)


def test_slow_counts_run_in_the_background(database: Database, counted: Figures, clock: Clock) -> None:
    first = counted.current()
    models.Figures.update(seconds=3600.0).execute()
    add(database, 1)
    clock.advance(timedelta(seconds=1))
    assert counted.current() == first


def test_figures_from_the_future_are_old(counted: Figures, clock: Clock, much: None) -> None:
    counted.current()
    first = wait_for(counted.current)
    clock.advance(-DAY)
    assert counted.current() == first
    assert wait_for(lambda: (shown := counted.current()) != first and shown).at == NOW - DAY


def nobody_counts() -> bool:
    return not any(thread.name == "figures" for thread in threading.enumerate())


@pytest.fixture
def somebody_counts(database: Database, database_url: str) -> Iterator[Any]:
    """Another process that counts."""
    connection = psycopg2.connect(database_url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (stored.LOCK,))
    yield connection
    connection.close()


def test_one_process_counts(
    counted: Figures, much: None, somebody_counts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting: list[int] = []
    collect = figures.collect
    monkeypatch.setattr(figures, "collect", lambda *given: (counting.append(1), collect(*given))[1])
    assert counted.current() is None
    wait_for(nobody_counts)
    assert not counting
    somebody_counts.close()
    counted.current()
    wait_for(counted.current)
    assert counting


def test_without_a_free_thread_old_figures_are_shown_and_the_next_visit_tries_again(
    counted: Figures, much: None, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counted.current()
    first = wait_for(counted.current)
    wait_for(nobody_counts)
    clock.advance(DAY)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full, caplog.at_level(logging.WARNING, "app.services.figures"):
        full.setattr(threading.Thread, "start", refuse)
        assert counted.current() == first
    assert "no thread to count" in caplog.text
    assert counted.current() == first
    assert wait_for(lambda: (shown := counted.current()) != first and shown).at == clock.now


def test_a_failed_count_is_logged_and_tried_again(
    counted: Figures, much: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING, "app.services.figures"):
        broken.setattr(stored, "LOCK", "no number")
        assert counted.current() is None
        wait_for(nobody_counts)
    assert "counting the overview's figures failed" in caplog.text
    assert wait_for(counted.current)
