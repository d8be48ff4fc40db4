"""What stricter terms would have refused, counted from the daily counts; the console's page is in
test_console_settings.py."""

from datetime import date, timedelta

import pytest

from app.domain.codes import Counted
from app.storage import terms_preview
from app.storage.database import Database
from app.storage.models import DailyCount
from app.storage.terms_preview import Refusals
from tests.conftest import START
from tests.support.query_plans import plan, statements

DAY = date(2026, 3, 2)


def count(card_id: str, day: date, kind: Counted, number: int) -> None:
    DailyCount.insert(card_id=card_id, day=day, kind=kind, count=number, last_at=START).execute()


def test_nothing_was_changed(database: Database) -> None:
    none = Refusals(0, 0)
    assert terms_preview.preview(DAY, [3]) == (none, none, {3: none}, True)


def test_rejections_and_earlier_days_do_not_count(database: Database) -> None:
    count("a", DAY, Counted.CLIENT_MISMATCH, 9)
    count("a", DAY - timedelta(days=1), Counted.HARDWARE_CHANGED, 9)
    count("a", DAY, Counted.ADDRESS_CHANGED, 4)
    assert terms_preview.preview(DAY, [3, 4]) == (
        Refusals(0, 0),
        Refusals(4, 1),
        {3: Refusals(1, 1), 4: Refusals(0, 0)},
        True,
    )


def test_hardware_and_address_count_together_for_each_card_and_day(database: Database) -> None:
    for card_id, day, hardware, address in (("a", DAY, 2, 2), ("a", DAY + timedelta(days=1), 3, 1), ("b", DAY, 1, 0)):
        count(card_id, day, Counted.HARDWARE_CHANGED, hardware)
        if address:
            count(card_id, day, Counted.ADDRESS_CHANGED, address)
    found = terms_preview.preview(DAY, [1, 3])
    assert found == (Refusals(6, 2), Refusals(9, 2), {1: Refusals(6, 1), 3: Refusals(2, 1)}, True)


def test_counts_beyond_the_bound_are_left_out_and_it_says_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terms_preview, "MAX_COUNTS", 3)
    for number in range(5):
        count(f"{number}", DAY, Counted.HARDWARE_CHANGED, 1)
    assert terms_preview.preview(DAY, []) == (Refusals(3, 3), Refusals(3, 3), {}, False)


def test_the_counts_are_found_by_index(database: Database) -> None:
    with statements(database) as ran:
        terms_preview.preview(DAY, [1])
    database.execute_sql("SET enable_seqscan = off")  # a small table is read whole otherwise
    assert ["daily_count_day" in plan(database, statement) for statement in ran] == [True, True]
