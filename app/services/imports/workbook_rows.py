"""Writes the rows of an XLSX workbook, which standard input brings, as CSV: a program for a process of its own.

The file may be hostile, and calamine allocates what the file claims. So this process has little memory and time, the
lowest priority, and is the first to be ended where the machine has no memory left (docs/decisions.md).
"""

import csv
import io
import os
import resource
import sys
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

MAX_ROWS, MAX_COLUMNS, MAX_CELL = 200_010, 80, 4_096
"""More than an import takes: the caller says so. Of a longer cell it gets one character more."""
_LIMITS = ((resource.RLIMIT_DATA, 160 * 1024 * 1024), (resource.RLIMIT_CPU, 30), (resource.RLIMIT_CORE, 0))


def text_of(value: object) -> str:
    """Return a cell as a person would have typed it; a number over 15 digits, which are lost, with an exponent."""
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}" if abs(value) < 10**15 else f"{value:.5E}"
    if isinstance(value, datetime):
        return f"{value + timedelta(milliseconds=500):%Y-%m-%d %H:%M:%S}"  # they are fractions of a day
    return str(value)


def write_rows(content: bytes, output: Any) -> None:  # noqa: ANN401  # a text file
    """Write the rows of the first visible sheet that has any, empty ones too."""
    from python_calamine import CalamineWorkbook, SheetVisibleEnum  # noqa: PLC0415  # after the limits are set

    workbook = CalamineWorkbook.from_filelike(io.BytesIO(content))
    visible = (sheet.name for sheet in workbook.sheets_metadata if sheet.visible is SheetVisibleEnum.Visible)
    found = next((sheet for sheet in map(workbook.get_sheet_by_name, visible) if sheet.start is not None), None)
    rows = [] if found is None else islice(found.iter_rows(), MAX_ROWS)
    csv.writer(output).writerows([text_of(value)[: MAX_CELL + 1] for value in row[:MAX_COLUMNS]] for row in rows)


if __name__ == "__main__":
    os.nice(19)
    for limit, most in _LIMITS:
        resource.setrlimit(limit, (most, most))
    with suppress(OSError):  # where there is no such file
        Path("/proc/self/oom_score_adj").write_text("1000")
    write_rows(sys.stdin.buffer.read(), io.TextIOWrapper(sys.stdout.buffer, "utf-8", newline=""))
