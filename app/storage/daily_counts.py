"""How often something happened to a card on a day: exact, one small row, however often a client does it."""

from datetime import date, datetime

from peewee import SQL, fn

from app.domain.codes import Counted
from app.domain.sharing import Environment, gets_an_entry
from app.storage.models import DailyCount

MAX_ENTRIES_PER_DAY = 50
"""The limit of entries in the journal of each `Counted` kind that one card has on one day; all are counted."""
PRUNE_BATCH = 10_000


def count(card_id: str, day: date, kind: Counted, at: datetime, environment: Environment | None) -> bool:
    """Count one, in the caller's transaction; return whether the journal has an entry of it.

    `app.domain.sharing.gets_an_entry` decides; where no environments are kept, the first `MAX_ENTRIES_PER_DAY` times
    get one. The row stays locked: two requests at once are not two entries of one environment.
    """
    new = None if environment is None else list(environment)
    (row,) = (
        DailyCount.insert(card_id=card_id, day=day, kind=kind, count=1, last_at=at, environments=new)
        .on_conflict(
            conflict_target=[DailyCount.card_id, DailyCount.day, DailyCount.kind],
            update={DailyCount.count: DailyCount.count + SQL("1"), DailyCount.last_at: at},
        )
        .returning(DailyCount.count, DailyCount.environments)
        .execute()
    )
    if environment is None or row.environments is None or row.count == 1:
        return bool(row.count <= MAX_ENTRIES_PER_DAY)
    kept = row.environments
    of_the_day = [Environment(*pair) for pair in zip(kept[::2], kept[1::2], strict=True)]
    if not gets_an_entry(environment, of_the_day, MAX_ENTRIES_PER_DAY):
        return False
    of_day = (DailyCount.card_id == card_id) & (DailyCount.day == day) & (DailyCount.kind == kind)
    DailyCount.update(environments=[*kept, *environment]).where(of_day).execute()
    return True


def changes(card_id: str, day: date) -> int:
    """Return how often the card's hardware or address changed on a day."""
    kinds = (Counted.HARDWARE_CHANGED, Counted.ADDRESS_CHANGED)
    of_day = (DailyCount.card_id == card_id) & (DailyCount.day == day) & DailyCount.kind.in_(kinds)
    counted: int = DailyCount.select(fn.COALESCE(fn.SUM(DailyCount.count), 0)).where(of_day).scalar()
    return int(counted)


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
