"""How often something happened to a card on a day: exact, one small row, however often a client does it."""

from datetime import date, datetime

from peewee import SQL, fn

from app.domain.codes import Counted
from app.storage.models import DailyCount

PRUNE_BATCH = 10_000


def count(card_id: str, day: date, kind: Counted, at: datetime) -> int:
    """Count one, in the caller's transaction; return how many it is of this day."""
    (row,) = (
        DailyCount.insert(card_id=card_id, day=day, kind=kind, count=1, last_at=at)
        .on_conflict(
            conflict_target=[DailyCount.card_id, DailyCount.day, DailyCount.kind],
            update={DailyCount.count: DailyCount.count + SQL("1"), DailyCount.last_at: at},
        )
        .returning(DailyCount.count)
        .execute()
    )
    counted: int = row.count
    return counted


def changes(card_id: str, day: date) -> int:
    """Return how often the card's hardware or address changed on a day."""
    kinds = (Counted.HARDWARE_CHANGED, Counted.ADDRESS_CHANGED)
    of_day = (DailyCount.card_id == card_id) & (DailyCount.day == day) & DailyCount.kind.in_(kinds)
    counted: int = DailyCount.select(fn.COALESCE(fn.SUM(DailyCount.count), 0)).where(of_day).scalar()
    return int(counted)


def of_card(card_id: str, since: date) -> list[DailyCount]:
    """Return a card's counts, the latest day first."""
    return list(
        DailyCount.select()
        .where((DailyCount.card_id == card_id) & (DailyCount.day >= since))
        .order_by(DailyCount.day.desc(), DailyCount.kind)
    )


def prune(before: date) -> int:
    """Delete up to `PRUNE_BATCH` counts of days before `before`; return how many."""
    old = (
        DailyCount.select(DailyCount.card_id, DailyCount.day, DailyCount.kind)
        .where(DailyCount.day < before)
        .limit(PRUNE_BATCH)
    )
    deleted: int = (
        DailyCount.delete().where(fn.ROW(DailyCount.card_id, DailyCount.day, DailyCount.kind).in_(old)).execute()
    )
    return deleted
