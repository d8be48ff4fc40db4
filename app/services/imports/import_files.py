"""The rows of an imported file: CSV as text, XLSX by a process of its own (docs/decisions.md)."""

import csv
import io
import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, cast

from app.domain.texts import RefusedError, Text
from app.runtime.environment import without_settings
from app.services.imports.workbook_rows import MAX_CELL

WORKBOOK_SECONDS = 60.0
_PROGRAM = Path(__file__).with_name("workbook_rows.py")


Row = tuple[int, list[str]]
"""The number of a row's first line in the file, and its cells. Empty rows are left out."""


class BrokenFileError(RefusedError):
    """From this line on the file cannot be read."""

    def __init__(self, line: int, text: Text) -> None:
        super().__init__(*text)
        self.line = line


@contextmanager
def open_rows(content: bytes) -> Iterator[tuple[str, Iterator[Row]]]:
    """Open a file, or refuse it; yield its encoding for people, and its rows, which may end in a BrokenFileError."""
    if is_workbook(content):
        with closing(_workbook(content)) as rows:
            yield "XLSX", rows
        return
    codec, encoding = _codec(content)
    yield encoding, _rows(_text(content, codec))


def is_workbook(content: bytes) -> bool:
    """Whether a file is read as XLSX."""
    return content.startswith(b"PK\x03\x04")


def _codec(content: bytes) -> tuple[str, str]:
    """Return the codec that decodes the whole file, and its name for people."""
    for codec, name in (("utf-8-sig", "UTF-8"), ("gb18030", "GB18030")):
        try:
            deque(_text(content, codec), maxlen=0)
        except UnicodeDecodeError:
            continue
        return codec, name
    raise RefusedError(
        "文件不是 XLSX，也不是 UTF-8 或 GB18030 编码的 CSV（旧版 .xls 和加密的文件无法读取）：请另存为未加密的 .xlsx",
        "the file is neither XLSX nor CSV in UTF-8 or GB18030 (.xls and encrypted files cannot be read): save it as "
        ".xlsx without a password",
    )


def _text(content: bytes, codec: str) -> io.TextIOWrapper:
    # Decoded as it is read: the whole text would take several times the file's memory.
    return io.TextIOWrapper(io.BytesIO(content), codec, newline="")


def _rows(text: Iterable[str], *, is_sheet: bool = False) -> Iterator[Row]:
    """Read CSV. Lines are those of the text; of a sheet its rows, whose cells may have several."""
    reader = csv.reader(text, strict=True)
    line = 1
    try:
        for number, cells in enumerate(reader, 1):
            if any(len(cell) > MAX_CELL for cell in cells):  # before anything looks at it closely
                wrong = Text(f"有超过 {MAX_CELL} 个字符的单元格", f"a cell has more than {MAX_CELL} characters")
                raise BrokenFileError(line, wrong)
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = 1 + (number if is_sheet else reader.line_num)
    except csv.Error as error:
        wrong = Text(f"不是 CSV：{error}（引号是否成对？）", f"not valid CSV: {error} (is a quote missing?)")
        raise BrokenFileError(line, wrong) from error


def _workbook(content: bytes) -> Generator[Row, None, None]:
    """Read a workbook in a process of its own: a hostile one may crash it, or make it exceed its memory or its time."""
    command, env = [sys.executable, "-I", str(_PROGRAM)], without_settings(os.environ)
    line = 1
    with tempfile.TemporaryFile() as source:
        source.write(content)
        source.seek(0)
        with subprocess.Popen(
            command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
        ) as process:
            timer = threading.Timer(WORKBOOK_SECONDS, process.kill)
            timer.start()
            try:
                with io.TextIOWrapper(cast("IO[bytes]", process.stdout), "utf-8", newline="") as text:
                    for line, cells in _rows(text, is_sheet=True):
                        yield line, cells
                is_broken = process.wait() != 0
            finally:
                timer.cancel()
                process.kill()
    if is_broken:
        raise BrokenFileError(
            line,
            Text(
                "XLSX 文件无法读取（损坏、加密或过大）：请在 Excel 或 WPS 中打开后另存为 .xlsx 或“CSV UTF-8”",
                "the XLSX file cannot be read (damaged, encrypted or too large): open it in a spreadsheet program, and "
                "save it as .xlsx or CSV UTF-8",
            ),
        )
