"""Reads cards sold before from CSV, and finds what is wrong in each cell (protocol, section 5)."""

import csv
import io
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.domain.cards import format_validity
from app.domain.texts import RefusedError, Text
from app.services.import_cells import READERS, CellError, card_of, cut
from app.storage import cards as card_rows
from app.storage.cards import NewCard
from app.storage.database import Database

MAX_CARDS = 200_000
"""The memory that the containers leave beside the service (some 150 MB) holds so many."""
MAX_FAULTS = 1_000
"""The number of faults kept: a wrong file has one in each cell, and all would take hundreds of times its memory."""

_HEADERS = {
    "id": ("id", "card", "card_id", "卡密", "卡密_id", "卡号"),
    "validity": ("validity", "有效期", "卡密有效期"),
    "validity_seconds": ("validity_seconds",),
    "activated_at": ("activated_at", "激活时间"),
    "expires_at": ("expires_at", "到期时间"),
    "batch": ("batch", "批次"),
    "note": ("note", "备注"),
    "status": ("status", "状态"),
}
_COLUMNS = {header: column for column, headers in _HEADERS.items() for header in headers}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong in a line of the file (from 1), and in which of our columns; None is the whole line."""

    line: int
    column: str | None
    text: Text


@dataclass(slots=True)
class Reading:
    """The content of a file. Without faults, `cards` is all of it; `ignored` are the columns that are not read.

    `faults` are the first `MAX_FAULTS`, by line; `fault_count` and `wrong_lines` count all of them.
    """

    encoding: str
    cards: list[NewCard] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    fault_count: int = 0
    wrong_lines: int = 0
    ignored: list[str] = field(default_factory=list)

    def note(self, faults: list[Fault]) -> None:
        """Add what is wrong in the next line."""
        self.faults += faults[: MAX_FAULTS - len(self.faults)]
        self.fault_count += len(faults)
        self.wrong_lines += bool(faults)

    def note_known(self, lines: dict[str, int], known: set[str]) -> None:
        """Add the cards that are already in the database, once all lines are read; `lines` has each card's line."""
        here = Text("此卡密已在数据库中，请从文件中删去此行", "this card is already in the database: remove the line")
        wrong = sorted(lines[card_id] for card_id in known)
        self.faults += [Fault(line, "id", here) for line in wrong[:MAX_FAULTS]]
        self.faults.sort(key=lambda fault: fault.line)
        del self.faults[MAX_FAULTS:]
        self.fault_count += len(wrong)
        self.wrong_lines += sum(card.id in known for card in self.cards)  # the others' lines are wrong already


class _BrokenCsvError(RefusedError):
    """From this line on the file is not valid CSV."""

    def __init__(self, line: int, error: csv.Error) -> None:
        super().__init__(f"不是 CSV：{error}（引号是否成对？）", f"not valid CSV: {error} (is a quote missing?)")
        self.line = line


def read(content: bytes, database: Database, now: datetime) -> Reading:
    """Read a CSV file, and look up which of its cards are already in the database.

    Args:
        content: The file, in UTF-8 or GB18030 (Excel's in China; GBK is a subset).
        database: Where the cards will be inserted.
        now: The time, aware.

    Raises:
        RefusedError: the file is not text, or has more than `MAX_CARDS` lines.
    """
    codec, encoding = _codec(content)
    reading = Reading(encoding)
    lines: dict[str, int] = {}
    try:
        _read_rows(_lines(content, codec), now, reading, lines)
    except _BrokenCsvError as error:
        reading.note([Fault(error.line, None, error.text)])
    reading.note_known(lines, database.with_connection(lambda: card_rows.existing(lines)))
    return reading


def summary(reading: Reading) -> dict[str, Any]:
    """Return the counts that a vendor checks before an import: cards, in use, frozen, by validity, by batch."""
    cards = reading.cards
    return {
        "cards": len(cards),
        "activated": sum(card.activated_at is not None for card in cards),
        "frozen": sum(card.frozen_at is not None for card in cards),
        "validities": dict(Counter(format_validity(card.validity) for card in cards).most_common()),
        "batches": dict(Counter(card.batch for card in cards if card.batch is not None).most_common()),
    }


def _codec(content: bytes) -> tuple[str, str]:
    """Return the codec that decodes the whole file, and its name for people."""
    for codec, name in (("utf-8-sig", "UTF-8"), ("gb18030", "GB18030")):
        try:
            deque(_lines(content, codec), maxlen=0)
        except UnicodeDecodeError:
            continue
        return codec, name
    raise RefusedError(
        "文件既不是 UTF-8 也不是 GB18030 编码：请在 Excel 中另存为“CSV UTF-8”",
        "the file is neither UTF-8 nor GB18030: save it as CSV UTF-8",
    )


def _lines(content: bytes, codec: str) -> io.TextIOWrapper:
    # Decoded as it is read: the whole text would take several times the file's memory.
    return io.TextIOWrapper(io.BytesIO(content), codec, newline="")


def _read_rows(text: Iterable[str], now: datetime, reading: Reading, lines: dict[str, int]) -> None:
    """Read all lines into `reading`, and the line of each card's ID into `lines`."""
    rows = _numbered(text)
    line, header = next(rows, (1, []))
    columns = _columns(line, header, reading)
    if reading.faults:
        return
    for number, (line, row) in enumerate(rows):
        if number >= MAX_CARDS:  # wrong lines take as long to read as good ones
            raise RefusedError(
                f"一次最多导入 {MAX_CARDS} 张，请拆分文件", f"at most {MAX_CARDS} cards at a time: split the file"
            )
        if any(row[len(header) :]):
            wrong = Text(
                "单元格比表头多：含逗号的内容须加双引号",
                "more cells than the header: quote a cell that contains a comma",
            )
            reading.note([Fault(line, None, wrong)])
            continue
        # A line may be short: the missing cells are empty.
        cells = dict.fromkeys(columns, "") | dict(zip(header, row, strict=False))
        values, faults = _values(line, {column: cells[name] for name, column in columns.items()})
        card_id = values.get("id")
        if card_id in lines:
            wrong = Text(f"与第 {lines[card_id]} 行重复", f"the same card as in line {lines[card_id]}")
            faults.append(Fault(line, "id", wrong))
        elif card_id is not None:
            lines[card_id] = line
        if not faults:
            try:
                reading.cards.append(card_of(values, now))
            except CellError as error:
                faults.append(Fault(line, error.column, error.text))
        reading.note(faults)


def _numbered(text: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, each with the number of its first line."""
    reader = csv.reader(text, strict=True)
    line = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise _BrokenCsvError(line, error) from error


def _columns(line: int, header: list[str], reading: Reading) -> dict[str, str]:
    """Return our name of each column that is read, by its header in the file."""
    columns: dict[str, str] = {}
    twice: dict[str, str] = {}
    for name in header:
        column = _COLUMNS.get(name.strip().casefold().replace(" ", "_"))
        if column is None:
            reading.ignored += [name] if name.strip() else []
        elif column in columns.values():
            twice[column] = cut(name)
        else:
            columns[name] = column
    faults = [
        Fault(line, column, Text(f"此列出现两次（{name}）", f"this column appears twice ({name})"))
        for column, name in twice.items()
    ]
    found = set(columns.values())
    if "id" not in found:
        wrong = Text(
            "缺少 id（卡密）列：首行须为逗号分隔的表头",
            "the column id is missing: line 1 must be a header, separated by commas",
        )
        faults.append(Fault(line, "id", wrong))
    if len(found & {"validity", "validity_seconds"}) != 1:
        wrong = Text(
            "validity（有效期）与 validity_seconds 须恰有一列",
            "exactly one of the columns validity and validity_seconds is required",
        )
        faults.append(Fault(line, "validity", wrong))
    reading.note(faults)
    return columns


def _values(line: int, cells: dict[str, str]) -> tuple[dict[str, Any], list[Fault]]:
    values: dict[str, Any] = {}
    faults = []
    for column, cell in cells.items():
        try:
            values[column] = READERS[column](cell)
        except RefusedError as error:
            faults.append(Fault(line, column, error.text))
    return values, faults
