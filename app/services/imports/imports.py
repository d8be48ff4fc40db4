"""Reads cards sold before from a file, and finds what is wrong in each cell."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from app.domain.cards.cards import format_validity, is_guessable, numbered
from app.domain.imports import Chosen, ContradictionError
from app.domain.licence.policy import is_live
from app.domain.programs import MAIN
from app.domain.texts import RefusedError, Text
from app.services.imports.import_cells import card_of
from app.services.imports.import_columns import Column, read_header
from app.services.imports.import_files import BrokenFileError, Row, open_rows
from app.storage import cards as card_rows
from app.storage.cards import NewCard, as_domain

MAX_CARDS = 200_000
"""The memory that the containers leave beside the service (some 150 MB) holds so many."""
MAX_FAULTS = 1_000
"""The number of faults kept: a wrong file has one in each cell, and all would take hundreds of times its memory."""
MAX_COLUMNS = 64
_PIECE, _PAUSE_SECONDS = 100, 0.001


class Fault(NamedTuple):
    """What is wrong in a line of the file (from 1), and in which of its columns; None is the whole line."""

    line: int
    column: str | None
    text: Text


@dataclass(slots=True)
class Reading:
    """The content of a file. Without faults, `cards` is all of it.

    `columns` are those that are read, `ignored` the headers of all others. `faults` are the first `MAX_FAULTS`, by
    line; `fault_count` counts all of them.
    """

    encoding: str
    chosen: Chosen | None = None
    program: str = MAIN
    columns: list[Column] = field(default_factory=list)
    cards: list[NewCard] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    fault_count: int = 0
    ignored: list[str] = field(default_factory=list)

    def note(self, faults: list[Fault]) -> None:
        """Add what is wrong in the next line."""
        self.faults += faults[: MAX_FAULTS - len(self.faults)]
        self.fault_count += len(faults)

    def header_of(self, name: str) -> str | None:
        """Return a column's header in the file, None where it has no such column."""
        return next((column.header for column in self.columns if column.field == name), None)


def read(content: bytes, now: datetime, zone: ZoneInfo, chosen: Chosen | None = None, program: str = MAIN) -> Reading:
    """Read a file, and look up which of its cards and machines are already in the database.

    It is CSV in UTF-8 or GB18030 (Excel's in China; GBK is a subset), or XLSX; refuse any other, and one with more than
    `MAX_CARDS` lines. Times without an offset are of `zone`, the vendor's. `chosen` is the validity of unused cards,
    for a file that has none. The cards are of `program`.
    """
    with open_rows(content) as (encoding, rows):
        reading = Reading(encoding, chosen, program)
        lines: dict[str, int] = {}
        try:
            _read_rows(rows, now, zone, reading, lines)
        except BrokenFileError as error:
            reading.note([Fault(error.line, None, error.text)])
    late = _share_machines(reading, lines, now) + _look_up(reading, lines)
    reading.fault_count += len(late)
    reading.faults = sorted(reading.faults + late, key=lambda fault: fault.line)[:MAX_FAULTS]
    return reading


def _read_rows(rows: Iterable[Row], now: datetime, zone: ZoneInfo, reading: Reading, lines: dict[str, int]) -> None:
    """Read all lines into `reading`, and the line of each card's ID into `lines`."""
    iterator = iter(rows)
    line, header = next(iterator, (1, []))
    reading.columns, reading.ignored, wrong = read_header(
        header[:MAX_COLUMNS], zone, is_chosen=reading.chosen is not None
    )
    reading.note([Fault(line, name, text) for name, text in wrong])
    if wrong:
        return
    for number, (line, row) in enumerate(iterator):
        if number % _PIECE == 0:  # Python runs one thread at a time: verifications take their turn
            time.sleep(_PAUSE_SECONDS)
        if number >= MAX_CARDS:  # wrong lines take as long to read as good ones
            raise RefusedError(
                f"一次最多导入 {MAX_CARDS} 张，请拆分文件", f"at most {MAX_CARDS} cards at a time: split the file"
            )
        if any(row[len(header) :]):
            extra = Text(
                "单元格比表头多：含逗号的内容须加双引号",
                "more cells than the header: quote a cell that contains a comma",
            )
            reading.note([Fault(line, None, extra)])
            continue
        reading.note(_read_line(line, row, now, reading, lines))


def _read_line(line: int, row: list[str], now: datetime, reading: Reading, lines: dict[str, int]) -> list[Fault]:
    values: dict[str, Any] = {}
    faults = []
    for column in reading.columns:
        cell = row[column.place] if column.place < len(row) else ""  # a line may be short
        try:
            values[column.field] = column.read(cell)
        except RefusedError as error:
            faults.append(Fault(line, column.header, error.text))
    key = values.get("id")
    if key is not None and (first := lines.setdefault(key[0], line)) != line:
        same = Text(f"与第 {first} 行重复", f"the same card as in line {first}")
        faults.append(Fault(line, reading.header_of("id"), same))
    if not faults:
        try:
            card = replace(card_of(values, now, reading.chosen), program=reading.program)
        except ContradictionError as error:
            return [Fault(line, reading.header_of(error.column), error.text)]
        reading.cards.append(card)
    return faults


def _share_machines(reading: Reading, lines: dict[str, int], now: datetime) -> list[Fault]:
    """Keep one card for each machine, the live one, as rule 5 does; return a fault for each further live card."""
    counts = Counter(card.binding.hardware for card in reading.cards if card.binding is not None)
    live: dict[str, int] = {}
    faults = []
    for place, card in enumerate(reading.cards):
        if card.binding is None or counts[card.binding.hardware] == 1:
            continue
        line = lines[card.id]
        if not is_live(as_domain(card), now):
            reading.cards[place] = replace(card, binding=None)
        elif (first := live.setdefault(card.binding.hardware, line)) != line:
            same = Text(
                f"与第 {first} 行是同一台设备，而一台设备只能有一张有效卡密：请清空其中一行的此格",
                f"the same machine as in line {first}, and a machine has one live card: clear this cell in one of them",
            )
            faults.append(Fault(line, reading.header_of("hardware"), same))
    return faults


def _look_up(reading: Reading, lines: dict[str, int]) -> list[Fault]:
    here = Text("此卡密已在数据库中，请从文件中删去此行", "this card is already in the database: remove the line")
    faults = [Fault(lines[card_id], reading.header_of("id"), here) for card_id in card_rows.existing(lines)]
    bound = {card.binding.hardware_sha256: card for card in reading.cards if card.binding is not None}
    for digest, other in card_rows.cards_of_machines(bound, reading.program).items():
        text = Text(
            f"此设备已绑定本系统的卡密 {other}：请先解绑，或清空此格",
            f"this machine is bound to the card {other} here: unbind that first, or clear the cell",
        )
        faults.append(Fault(lines[bound[digest].id], reading.header_of("hardware"), text))
    return faults


def summary(reading: Reading) -> dict[str, Any]:
    """Return the counts that a vendor checks before an import: cards, in use, frozen, bound, by validity, by batch."""
    cards = reading.cards
    return {
        "cards": len(cards),
        "activated": sum(card.activated_at is not None for card in cards),
        "frozen": sum(card.frozen_at is not None for card in cards),
        "bound": sum(card.binding is not None for card in cards),
        "validities": dict(Counter(format_validity(card.validity) for card in cards).most_common()),
        "batches": dict(Counter(card.batch for card in cards if card.batch is not None).most_common()),
    }


def warnings(reading: Reading) -> list[Text]:
    """Return what a vendor should know before an import, though it is no fault."""
    found = []
    keys = [card.imported_key for card in reading.cards if card.imported_key is not None]
    if weak := [key for key in keys if is_guessable(key)] or numbered(keys):
        found.append(
            Text(
                f"{len(weak)} 张卡密很短，或只有最后几个字符不同（如 {weak[0]}），可能被人逐个猜中：建议改发新卡密",
                f"{len(weak)} keys are short, or differ only in their last characters (such as {weak[0]}): somebody "
                "may guess them; better issue new cards",
            )
        )
    return found
