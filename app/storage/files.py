"""Statements of licensed files, and of the journal entries of their downloads."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from peewee import SQL, fn, prefetch

from app.domain.codes import EventKind
from app.domain.operators import CONSOLE_ACTOR, SHOP_ACTOR, Role
from app.storage.blobs import Blob
from app.storage.cards import of_batch
from app.storage.database import Database
from app.storage.journal import Entry, code_or_kind
from app.storage.models import Card, Event, File, FileBatch, Operator

_LOCK = 0x6B6164756E66  # "kadunf"


def lock(database: Database) -> None:
    """Exclude other changes of files, rows and bytes, for the rest of the transaction."""
    database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))


def listed() -> list[tuple[File, list[str]]]:
    """Return all files by name, each with its batches; a file without batches is for every card."""
    rows = prefetch(File.select().order_by(File.name), FileBatch.select().order_by(FileBatch.batch))
    return [(row, [of.batch for of in row.filebatch_set]) for row in rows]


def for_card(card_id: str) -> list[File]:
    """Return the files that are for this card, by name."""
    restrictions = FileBatch.select().where(FileBatch.file == File.name)
    batch = Card.select(Card.batch).where(Card.id == card_id)
    return list(
        File.select()
        .where(~fn.EXISTS(restrictions) | fn.EXISTS(restrictions.where(FileBatch.batch == batch)))
        .order_by(File.name)
    )


def put(name: str, blob: Blob, now: datetime, batches: Iterable[str] | None) -> list[str]:
    """Write a file's row, and its batches unless they are None; return the batches that it has now."""
    columns = {File.size: blob.size, File.sha256: blob.sha256, File.added_at: now}
    File.insert({File.name: name, **columns}).on_conflict(conflict_target=[File.name], update=columns).execute()
    if batches is not None:
        FileBatch.delete().where(FileBatch.file == name).execute()
        for batch in sorted(set(batches)):
            FileBatch.insert(file=name, batch=batch).execute()
    return [of.batch for of in FileBatch.select().where(FileBatch.file == name).order_by(FileBatch.batch)]


def is_wanted(sha256: str) -> bool:
    """Tell whether a file has these bytes."""
    return bool(File.select().where(File.sha256 == sha256).exists())


def batches() -> set[str]:
    """Return the batches that a file is for."""
    return {batch for (batch,) in FileBatch.select(FileBatch.batch).distinct().tuples()}


def cards_of_sellers(batch: str) -> int:
    """Return how many cards of a batch were issued by shops, or in the console by others than today's owners."""
    owners = Operator.select(fn.CONCAT(CONSOLE_ACTOR, Operator.name)).where(Operator.role == Role.OWNER.value)
    is_seller = fn.starts_with(Event.actor, CONSOLE_ACTOR) & Event.actor.not_in(owners)
    # A card's creation and the journal's entry about its issue bear the same time.
    issue = Event.select(SQL("1")).where((code_or_kind == EventKind.ISSUED.value) & (Event.at == Card.created_at))
    issue = issue.where(fn.starts_with(Event.actor, SHOP_ACTOR) | is_seller)
    return int(Card.select().where((of_batch == batch) & fn.EXISTS(issue)).count())


def journalled_downloads(entry: Entry, since: datetime) -> Any:  # noqa: ANN401  # a peewee query
    """Return the query for the journal entries of the same download since a time."""
    details = entry.details or {}
    return Event.select(Event.id).where(
        (Event.kind == EventKind.FILE_DOWNLOADED)
        & (Event.card_id == entry.card_id)
        & (Event.details["sha256"] == details["sha256"])
        & (Event.details["name"] == details["name"])
        & (Event.at >= since)
    )
