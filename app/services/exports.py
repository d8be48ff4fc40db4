"""What leaves as a file: cards, row by row, and CSV that an import and a spreadsheet can both read."""

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import datetime, tzinfo
from typing import Any

from app.services.showing import local, seconds, shown
from app.storage import cards

Row = dict[str, Any]


def card_documents(wanted: cards.Filter, now: datetime, zone: tzinfo) -> Iterator[Row]:
    """Yield cards as lists and exports show them, with all that an import reads; page by page."""
    for row, client in cards.search(wanted, now):
        yield {
            "id": row.id,
            "status": cards.as_domain(row).status(now).value,
            "validity_seconds": seconds(row.validity),
            "activated_at": local(row.activated_at, zone),
            "expires_at": local(row.expires_at, zone),
            "batch": row.batch,
            "note": row.note,
            "hardware": client.hardware if client else None,
            "ip": client.ip if client else None,
        }


def csv_lines(rows: Iterable[Row]) -> Iterator[str]:
    """Yield CSV with a header, a row at a time: control characters escaped, no cell a formula."""
    buffer = io.StringIO()
    writer = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(buffer, row, lineterminator="\n")
            writer.writeheader()
        writer.writerow({k: _harmless(shown(v)) if isinstance(v, str) else v for k, v in row.items()})
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _harmless(text: str) -> str:
    """Keep a spreadsheet from taking a text that a stranger sent for a formula."""
    # What bears the mark already gets another, so that an import can take exactly ours away.
    return f"'{text}" if text.lstrip("'").startswith(("=", "+", "-", "@")) else text
