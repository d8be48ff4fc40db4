"""The command line's output: tables for people, one JSON document for programs."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, tzinfo
from itertools import chain, islice
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.table import Table
from rich.text import Text as RichText

from app.services.cards.exports import json_pieces
from app.services.field_names import field_name
from app.services.formatting import escaped, json_text, local

RICH_ROWS = 2_000
"""Longer tables are written as plain columns, row by row: laying them out would take minutes."""


def print_json(value: object) -> None:
    sys.stdout.write(json_text(value) + "\n")


def print_json_list(items: Iterable[object]) -> None:
    """Print one JSON list, an item a line, without holding it all."""
    sys.stdout.writelines(json_pieces(items))


@contextmanager
def progress(description: str, total: int | None, *columns: ProgressColumn) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal; yields the function that adds to it."""
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.update(task, advance=done)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; cells are shown literally, without markup, None as an empty one. Names of fields are headings."""
    columns = [heading(name) for name in columns]
    iterator = iter(rows)
    head = list(islice(iterator, RICH_ROWS + 1))
    if len(head) > RICH_ROWS:
        sys.stdout.write("\t".join(columns) + "\n")
        for row in chain(head, iterator):
            sys.stdout.write("\t".join(map(_literally, row)) + "\n")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", max_width=64)
    for row in head:
        table.add_row(*(RichText(_literally(cell)) for cell in row))
    # Wider than most terminals: they wrap lines more readably than a table can squeeze its columns.
    Console(markup=False, highlight=False, emoji=False, width=400).print(table)


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
