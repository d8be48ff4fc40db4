"""Writes the rows of an XLSX workbook, which standard input brings, as CSV: a program for a process of its own.

The file may be hostile, and the library that reads it allocates what the file claims. So this process has little
memory and time, the lowest priority, and is the first to be ended where the machine has no memory left.
"""

import csv
import io
import os
import resource
import sys
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

MAX_DATA_BYTES = 160 * 1024 * 1024
MAX_CPU_SECONDS = 30
MAX_ROWS = 200_010
"""More than an import takes: the caller says so."""
MAX_COLUMNS = 80
MAX_CELL = 4_096
"""Characters of a cell, four times the longest that a card can have; of a longer one the caller gets one more."""
_EXACT_DIGITS = 15


def confine() -> None:
    """Limit what this process takes."""
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_DATA_BYTES, MAX_DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # where there is no such file
        Path("/proc/self/oom_score_adj").write_text("1000")


def text_of(value: Any) -> str:  # noqa: ANN401  # what a cell may hold
    """Return a cell as a person would have typed it.

    A number of more than 15 digits is written with an exponent, since the spreadsheet has lost its last digits.
    """
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer():
        whole = str(int(value))
        return whole if len(whole.lstrip("-")) <= _EXACT_DIGITS else f"{value:.5E}"
    if isinstance(value, datetime):
        return f"{value + timedelta(milliseconds=500):%Y-%m-%d %H:%M:%S}"  # they are fractions of a day
    return str(value)


def write_rows(content: bytes, output: Any) -> None:  # noqa: ANN401  # a text file
    """Write the rows of the first visible sheet that has any: the number of each in the sheet, then its cells."""
    from python_calamine import CalamineWorkbook, SheetVisibleEnum  # noqa: PLC0415  # after the limits are set

    workbook = CalamineWorkbook.from_filelike(io.BytesIO(content))
    writer = csv.writer(output)
    for sheet in workbook.sheets_metadata:
        if sheet.visible is not SheetVisibleEnum.Visible:
            continue
        found = workbook.get_sheet_by_name(sheet.name)
        if found.start is None:
            continue
        for number, row in enumerate(found.iter_rows(), 1):
            if number > MAX_ROWS:
                break
            cells = [text_of(value)[: MAX_CELL + 1] for value in row[:MAX_COLUMNS]]
            if any(cell.strip() for cell in cells):
                writer.writerow([number, *cells])
        return


if __name__ == "__main__":
    confine()
    write_rows(sys.stdin.buffer.read(), io.TextIOWrapper(sys.stdout.buffer, "utf-8", newline=""))
