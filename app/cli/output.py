"""The command line's output: tables for people, one JSON document for programs."""

import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from itertools import chain, islice
from typing import Any

from app.services.cards.exports import json_pieces
from app.services.field_names import field_name
from app.services.formatting import escaped, json_text, local

ALIGNED_ROWS = 2_000
"""So many rows say how wide a table's columns are; the others are printed as they come."""


def print_json(value: object) -> None:
    sys.stdout.write(json_text(value) + "\n")


def print_json_list(items: Iterable[object]) -> None:
    """Print one JSON list, an item a line, without holding it all."""
    sys.stdout.writelines(json_pieces(items))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; cells are shown literally, without markup, None as an empty one. Names of fields are headings."""
    cells = (list(map(_literally, row)) for row in rows)
    head = [[heading(name) for name in columns], *islice(cells, ALIGNED_ROWS)]
    widths = [max(map(_width, column)) for column in zip(*head, strict=True)]
    for row in chain(head, cells):
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(each) in "FW" else 1 for each in text)


def heading(name: str) -> str:
    """Return the heading of a field's column; another text is a heading itself."""
    text = field_name(name)
    return name if text == (name, name) else f"{text.zh} {text.en}"


def _literally(cell: object) -> str:
    return "" if cell is None else escaped(str(cell))


def records(
    rows: Iterable[Any], names: Iterable[str], zone: tzinfo, more: Callable[[Any], dict[str, Any]] = lambda _row: {}
) -> list[dict[str, Any]]:
    """Return the named values of rows: those of `more`, otherwise attributes; times in the vendor's zone."""

    def record(row: object) -> dict[str, Any]:
        own = more(row)
        values = {name: own[name] if name in own else getattr(row, name) for name in names}
        return {n: local(value, zone) if isinstance(value, datetime) else value for n, value in values.items()}

    return [record(row) for row in rows]


def print_records(records: Sequence[Mapping[str, Any]], columns: Sequence[str], output_format: str, none: str) -> None:
    """Print records as JSON, or as a table; `none` is printed instead of an empty table."""
    if output_format == "json":
        print_json_list(records)
    elif records:
        print_table(columns, ([_cell(record[name]) for name in columns] for record in records))
    else:
        say(none)


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "是 yes" if value else "否 no"
    if isinstance(value, list):
        return ", ".join(value)
    return value


def print_section(title: str, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Print a title, and a table of rows: of these columns, or of all that the rows have."""
    found = list(rows)
    columns = columns or list(found[0] if found else ())
    sys.stdout.write(f"{title}\n")
    print_table(columns, ([row[name] for name in columns] for row in found))


def print_fields(fields: Iterable[tuple[str, Any]]) -> None:
    print_table(("", ""), fields)


def say(text: str) -> None:
    """Print a message for people on stderr, which programs do not read."""
    sys.stderr.write(escaped(text) + "\n")
