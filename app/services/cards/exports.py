"""Cards and journal entries as CSV, JSON or text, row by row; the CSV suits imports and spreadsheets."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from itertools import chain
from typing import Any

from app.domain.addresses import known
from app.domain.codes import EventKind
from app.services.formatting import escaped, json_text, local, seconds
from app.storage import journal
from app.storage.cards import NewCard
from app.storage.models import Card, Client, DailyCount, Event

Row = dict[str, Any]
CARD_COLUMNS = (
    *("id", "status", "validity_seconds", "activated_at", "expires_at", "batch", "note", "hardware", "ip"),
    "imported_key",
)
ISSUED_COLUMNS = ("id", "validity_seconds", "batch", "note")
JOURNAL_COLUMNS = (
    *("id", "at", "kind", "code", "card_id", "reference", "ip", "claimed_ip", "hardware", "function", "actor"),
    "details",
)
# Full-width signs, since a Chinese Excel reads either; after `;`, where Excel splits if the comma is decimal, and after
# a quote there, which opens the next cell.
_FORMULA = re.compile(r"(^|;\"*)(?='*[=+\-@＝＋－＠])")


def card_documents(cards: Iterable[Card], zone: tzinfo) -> Iterator[Row]:
    """Yield cards as lists and exports show them, with everything that an import reads."""
    for row in cards:
        yield {
            "id": row.id,
            "status": row.status.value,
            "validity_seconds": seconds(row.validity),
            "activated_at": local(row.activated_at, zone),
            "expires_at": local(row.expires_at, zone),
            "batch": row.batch,
            "note": row.note,
            "hardware": row.client.hardware if row.client else None,
            "ip": known(row.client.ip) if row.client else None,
            "imported_key": row.imported_key,
        }


def card_document(card: Card, zone: tzinfo, counts: Iterable[DailyCount]) -> Row:
    """Return the rows of a card, its client and its daily counts, as `cardctl card show` prints them."""
    return {
        "card": {**_columns(card, zone), "status": card.status.value},
        "client": card.client and _columns(card.client, zone) | {"requested_at": local(card.used_at, zone)},
        "counts": [
            {"day": each.day.isoformat(), "kind": each.kind, "count": each.count, "last_at": local(each.last_at, zone)}
            for each in counts
        ],
    }


def _columns(row: Card | Client, zone: tzinfo) -> Row:
    values: Row = {}
    for field in row._meta.sorted_fields:  # noqa: SLF001  # peewee's documented way to a model's columns
        value = row.__data__.get(field.name)
        if isinstance(value, timedelta):
            value = seconds(value)
        elif isinstance(value, datetime):
            value = local(value, zone)
        values[field.column_name] = value
    return values


def issued_documents(issued: Iterable[Card | NewCard]) -> Iterator[Row]:
    """Yield cards as they are shown right after they were issued."""
    for card in issued:
        yield {"id": card.id, "validity_seconds": seconds(card.validity), "batch": card.batch, "note": card.note}


def journal_documents(events: Iterable[Event], zone: tzinfo) -> Iterator[Row]:
    """Yield journal entries by their columns, times in the vendor's zone."""
    return ({**event.__data__, "at": local(event.at, zone)} for event in events)


def record_export(at: datetime, actor: str, what: Row) -> None:
    """Write an export into the journal: what was exported, in which format, with which filter."""
    journal.append([journal.Entry(at=at, kind=EventKind.EXPORTED, actor=actor, details=what)])


def file_pieces(output_format: str, rows: Iterable[Row], columns: Sequence[str]) -> Iterator[str]:
    """Yield the text of a file: `csv`, `json`, or `txt`, which has the IDs alone."""
    if output_format == "txt":
        return (f"{row['id']}\n" for row in rows)
    return json_pieces(rows) if output_format == "json" else csv_lines(rows, columns)


def json_pieces(items: Iterable[Any]) -> Iterator[str]:
    """Yield one JSON list, an item a line."""
    separator = "["
    for item in items:
        yield separator + json_text(item)
        separator = ",\n"
    yield "[]\n" if separator == "[" else "]\n"


def csv_lines(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[str]:
    """Yield CSV line by line, the header first; control characters are escaped, and no cell is a formula."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    for row in chain([dict(zip(columns, columns, strict=True))], rows):  # the header comes without rows, too
        writer.writerow({k: _cell(v) for k, v in row.items()})
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _cell(value: Any) -> Any:  # noqa: ANN401  # any value of a row
    if isinstance(value, dict):
        value = json_text(value)
    # A stranger may have sent what a spreadsheet would take for a formula. A text that already has the mark gets
    # another, so that an import removes exactly ours.
    return _FORMULA.sub(r"\1'", escaped(value)) if isinstance(value, str) else value
