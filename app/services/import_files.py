"""The rows of an imported file: CSV as text, XLSX by a process of its own (docs/decisions.md)."""

import csv
import io
import os
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

from app.domain.texts import RefusedError, Text
from app.environment import without_settings
from app.services.workbook_rows import MAX_CELL

MAX_UNPACKED_BYTES = 64 * 1024 * 1024
"""An XLSX file of 5 MB with 100,000 cards has 49 MB of XML."""
MAX_PARTS = 1_000
WORKBOOK_SECONDS = 60.0
_ZIP, _PART, _OLD_EXCEL = b"PK\x03\x04", b"PK\x01\x02", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PROGRAM = Path(__file__).with_name("workbook_rows.py")


class Row(NamedTuple):
    """A row that is not empty, with the number of its first line in the file."""

    line: int
    cells: list[str]


class BrokenFileError(RefusedError):
    """From this line on the file cannot be read."""

    def __init__(self, line: int, text: Text) -> None:
        super().__init__(*text)
        self.line = line


@contextmanager
def open_rows(content: bytes) -> Iterator[tuple[str, Iterator[Row]]]:
    """Open a file; yield its encoding, as people call it, and its rows, which are read as they are asked for.

    Raises:
        RefusedError: the file is of neither kind.
        BrokenFileError: while rows are read: from a line on it is not valid.
    """
    if is_workbook(content):
        with _workbook(content) as rows:
            yield "XLSX", rows
        return
    if content.startswith(_OLD_EXCEL):
        raise RefusedError(
            "这是旧版 Excel 文件（.xls）或加密的文件：请另存为未加密的 .xlsx，或“CSV UTF-8”",
            "this is a workbook of an old Excel (.xls), or an encrypted one: save it as .xlsx without a password",
        )
    codec, encoding = _codec(content)
    yield encoding, _csv_rows(_text(content, codec))


def is_workbook(content: bytes) -> bool:
    """Whether a file is read as XLSX."""
    return content.startswith(_ZIP)


def _codec(content: bytes) -> tuple[str, str]:
    """Return the codec that decodes the whole file, and its name for people."""
    for codec, name in (("utf-8-sig", "UTF-8"), ("gb18030", "GB18030")):
        try:
            deque(_text(content, codec), maxlen=0)
        except UnicodeDecodeError:
            continue
        return codec, name
    raise RefusedError(
        "文件不是 XLSX，也不是 UTF-8 或 GB18030 编码的 CSV：请在 Excel 中另存为“CSV UTF-8”",
        "the file is neither XLSX nor CSV in UTF-8 or GB18030: save it as CSV UTF-8",
    )


def _text(content: bytes, codec: str) -> io.TextIOWrapper:
    # Decoded as it is read: the whole text would take several times the file's memory.
    return io.TextIOWrapper(io.BytesIO(content), codec, newline="")


def _csv_rows(text: Iterable[str]) -> Iterator[Row]:
    reader = csv.reader(text, strict=True)
    line = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield _bounded(Row(line, row))
            line = reader.line_num + 1
    except csv.Error as error:
        wrong = Text(f"不是 CSV：{error}（引号是否成对？）", f"not valid CSV: {error} (is a quote missing?)")
        raise BrokenFileError(line, wrong) from error


def _bounded(row: Row) -> Row:
    """Refuse a cell that no card can have, before anything looks at it closely."""
    for number, cell in enumerate(row.cells, 1):
        if len(cell) > MAX_CELL:
            raise BrokenFileError(
                row.line,
                Text(
                    f"第 {number} 列超过 {MAX_CELL} 个字符",
                    f"the cell in column {number} has more than {MAX_CELL} characters",
                ),
            )
    return row


@contextmanager
def _workbook(content: bytes) -> Iterator[Iterator[Row]]:
    """Read a workbook in a process of its own: a hostile one may crash it, or make it exceed its memory or its time."""
    _check_parts(content)
    with tempfile.TemporaryFile() as source:
        source.write(content)
        source.seek(0)
        command = [sys.executable, "-I", str(_PROGRAM)]
        env = without_settings(os.environ)
        with subprocess.Popen(
            command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
        ) as process:
            timer = threading.Timer(WORKBOOK_SECONDS, process.kill)
            timer.start()
            try:
                yield _workbook_rows(process)
            finally:
                timer.cancel()
                process.kill()


def _workbook_rows(process: "subprocess.Popen[bytes]") -> Iterator[Row]:
    line = 1
    with io.TextIOWrapper(cast("IO[bytes]", process.stdout), "utf-8", newline="") as text:
        for number, *cells in csv.reader(text):
            line = int(number)
            yield _bounded(Row(line, cells))
    if process.wait() != 0:
        raise BrokenFileError(
            line,
            Text(
                "XLSX 文件无法读取（损坏、加密或过大）：请在 Excel 或 WPS 中打开后另存为 .xlsx 或“CSV UTF-8”",
                "the XLSX file cannot be read (damaged, encrypted or too large): open it in a spreadsheet program, and "
                "save it as .xlsx or CSV UTF-8",
            ),
        )


def _check_parts(content: bytes) -> None:
    """Refuse what unpacks to more than `MAX_UNPACKED_BYTES`, or is no workbook.

    Raises:
        RefusedError: it is one of these.
    """
    if content.count(_PART) > MAX_PARTS:  # before each takes an object
        raise _too_large()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
        raise RefusedError("XLSX 文件已损坏", "the XLSX file is damaged") from error
    if not any(part.filename.lower() == "xl/workbook.xml" for part in parts):
        raise RefusedError("这不是 XLSX 工作簿", "this is no XLSX workbook")
    if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED_BYTES:
        raise _too_large()


def _too_large() -> RefusedError:
    size = MAX_UNPACKED_BYTES // (1024 * 1024)
    return RefusedError(
        f"XLSX 展开后超过 {size} MB：请拆分，或另存为“CSV UTF-8”",
        f"the XLSX file unpacks to more than {size} MB: split it, or save it as CSV UTF-8",
    )
