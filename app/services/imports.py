"""Reads cards sold before from a file, and finds what is wrong in each cell (protocol, section 5)."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from app.domain.cards import format_validity, is_guessable, numbered
from app.domain.imported_cards import Chosen, ContradictionError
from app.domain.policy import is_live
from app.domain.texts import RefusedError, Text
from app.services.import_cells import card_of
from app.services.import_columns import NAMES, Column, read_header
from app.services.import_files import BrokenFileError, Row, open_rows
from app.storage import cards as card_rows
from app.storage.cards import NewCard, as_domain
from app.storage.database import Database

MAX_CARDS = 200_000
"""The memory that the containers leave beside the service (some 150 MB) holds so many."""
MAX_FAULTS = 1_000
"""The number of faults kept: a wrong file has one in each cell, and all would take hundreds of times its memory."""
MAX_COLUMNS = 64
_GUESSABLE_SHOWN = 3
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
    line; `fault_count` and `wrong_lines` count all of them. `derived` counts the cards whose activation is not in the
    file, `unbound` the machines that are left out, since another card of the file has them, `homeless` the addresses
    without a machine, `endless` the unused cards that never expire although a shorter validity was chosen for such
    cards. `late` are the lines whose activation would be later than now. `guessable` are a few of the keys
    that can be guessed, of `guessable_count`.
    """

    encoding: str
    chosen: Chosen | None = None
    columns: list[Column] = field(default_factory=list)
    cards: list[NewCard] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    fault_count: int = 0
    ignored: list[str] = field(default_factory=list)
    derived: int = 0
    unbound: int = 0
    homeless: int = 0
    endless: int = 0
    late: list[int] = field(default_factory=list)
    guessable: list[str] = field(default_factory=list)
    guessable_count: int = 0
    _wrong: set[int] = field(default_factory=set)

    @property
    def wrong_lines(self) -> int:
        """How many lines have a fault."""
        return len(self._wrong)

    def note(self, faults: list[Fault]) -> None:
        """Add what is wrong in the next line."""
        self.faults += faults[: MAX_FAULTS - len(self.faults)]
        self.fault_count += len(faults)
        self._wrong |= {fault.line for fault in faults}

    def note_late(self, faults: list[Fault]) -> None:
        """Add what is found once all lines are read."""
        self.faults = sorted(self.faults + faults, key=lambda fault: fault.line)[:MAX_FAULTS]
        self.fault_count += len(faults)
        self._wrong |= {fault.line for fault in faults}

    @property
    def has_validity(self) -> bool:
        """Whether a column has the validities."""
        return any(column.field in ("validity", "validity_seconds") for column in self.columns)

    def header_of(self, name: str) -> str | None:
        """Return a column's header in the file, None where it has no such column."""
        return next((column.header for column in self.columns if column.field == name), None)

    def naming(self, zh: str, en: str) -> Text:
        """Return a text whose `{expires_at}` and the like became the file's headers, or our names of columns."""
        headers = {column.field: f"“{column.header}”" for column in self.columns}
        names = [{field: name[place] for field, name in NAMES.items()} | headers for place in (0, 1)]
        return Text(zh.format_map(names[0]), en.format_map(names[1]))


def read(content: bytes, database: Database, now: datetime, zone: ZoneInfo, chosen: Chosen | None = None) -> Reading:
    """Read a file, and look up which of its cards and machines are already in the database.

    Args:
        content: The file: CSV in UTF-8 or GB18030 (Excel's in China; GBK is a subset), or XLSX.
        database: Where the cards will be inserted.
        now: The time, aware.
        zone: The vendor's, for times without an offset.
        chosen: The validity of unused cards, for a file that has none.

    Raises:
        RefusedError: the file is neither, or has more than `MAX_CARDS` lines.
    """
    with open_rows(content) as (encoding, rows):
        reading = Reading(encoding, chosen)
        lines: dict[str, int] = {}
        try:
            _read_rows(rows, now, zone, reading, lines)
        except BrokenFileError as error:
            reading.note([Fault(error.line, None, error.text)])
    _share_machines(reading, lines, now)
    database.with_connection(lambda: _look_up(reading, lines))
    return reading


def _read_rows(rows: Iterable[Row], now: datetime, zone: ZoneInfo, reading: Reading, lines: dict[str, int]) -> None:
    """Read all lines into `reading`, and the line of each card's ID into `lines`."""
    iterator = iter(rows)
    line, header = next(iterator, Row(1, []))
    if len(header) > MAX_COLUMNS:
        header = header[: max((n for n, name in enumerate(header, 1) if name.strip()), default=0)]
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
    """Read a line into `reading`; return what is wrong in it."""
    values: dict[str, Any] = {}
    faults = []
    for column in reading.columns:
        cell = row[column.place] if column.place < len(row) else ""  # a line may be short
        try:
            value = values[column.field] = column.read(cell)
        except RefusedError as error:
            faults.append(Fault(line, column.header, error.text))
            continue
        if not column.example and cell.strip():
            column.example, column.value = cell.strip(), value
    key = values.get("id")
    if key is not None and key.id in lines:
        same = Text(f"与第 {lines[key.id]} 行重复", f"the same card as in line {lines[key.id]}")
        faults.append(Fault(line, reading.header_of("id"), same))
    elif key is not None:
        lines[key.id] = line
    if not faults:
        try:
            card, use = card_of(values, now, reading.chosen)
        except ContradictionError as error:
            return [Fault(line, reading.header_of(error.column), reading.naming(*error.text))]
        reading.cards.append(card)
        reading.derived += use.is_derived
        reading.late += [line] if use.begins_now else []
        reading.homeless += card.binding is None and values.get("ip") is not None
        is_limited = reading.chosen is not None and reading.chosen.validity is not None
        reading.endless += is_limited and card.activated_at is None and card.validity is None
        if card.imported_key is not None and is_guessable(card.imported_key):
            reading.guessable_count += 1
            reading.guessable += [card.imported_key] if len(reading.guessable) < _GUESSABLE_SHOWN else []
    return faults


def _share_machines(reading: Reading, lines: dict[str, int], now: datetime) -> None:
    """Keep one card for each machine, the live one, as rule 5 does; two live cards are a fault."""
    counts = Counter(card.binding.hardware for card in reading.cards if card.binding is not None)
    live: dict[str, int] = {}
    faults = []
    for place, card in enumerate(reading.cards):
        if card.binding is None or counts[card.binding.hardware] == 1:
            continue
        line = lines[card.id]
        if not is_live(as_domain(card), now):
            reading.cards[place] = replace(card, binding=None)
            reading.unbound += 1
        elif (first := live.setdefault(card.binding.hardware, line)) != line:
            same = Text(
                f"与第 {first} 行是同一台设备，而一台设备只能有一张有效卡密：请清空其中一行的此格",
                f"the same machine as in line {first}, and a machine has one live card: clear this cell in one of them",
            )
            faults.append(Fault(line, reading.header_of("hardware"), same))
    reading.note_late(faults)


def _look_up(reading: Reading, lines: dict[str, int]) -> None:
    """Find the cards and the machines that are already in the database."""
    here = Text("此卡密已在数据库中，请从文件中删去此行", "this card is already in the database: remove the line")
    faults = [Fault(lines[card_id], reading.header_of("id"), here) for card_id in card_rows.existing(lines)]
    bound = {card.binding.hardware_sha256: card for card in reading.cards if card.binding is not None}
    for digest, other in card_rows.cards_of_machines(bound).items():
        text = Text(
            f"此设备已绑定本系统的卡密 {other}：请先解绑，或清空此格",
            f"this machine is bound to the card {other} here: unbind that first, or clear the cell",
        )
        faults.append(Fault(lines[bound[digest].id], reading.header_of("hardware"), text))
    reading.note_late(faults)


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
    if reading.guessable_count:
        keys = ", ".join(reading.guessable)
        found.append(
            Text(
                f"{reading.guessable_count} 张卡密很短（如 {keys}），可能被人逐个猜中：建议改发新卡密",
                f"{reading.guessable_count} keys are short enough to guess (such as {keys}): better issue new cards",
            )
        )
    if alike := numbered(card.imported_key for card in reading.cards if card.imported_key is not None):
        found.append(
            Text(
                f"{len(alike)} 张卡密只有最后 6 个字符不同（如 {alike[0]}），有了一张就可能猜中其他的：建议改发新卡密",
                f"{len(alike)} keys differ only in their last six characters (such as {alike[0]}): anyone who has "
                "one can guess the others; better issue new cards",
            )
        )
    found += _about_times(reading)
    if reading.unbound:
        found.append(
            Text(
                f"{reading.unbound} 张过期或冻结的卡密与其他卡密是同一台设备：这些卡密不绑定",
                f"{reading.unbound} expired or frozen cards have a machine of another card: they are not bound",
            )
        )
    if reading.homeless:
        found.append(
            Text(
                f"{reading.homeless} 行有 IP 而没有机器码：不绑定，首次启动时自动绑定",
                f"{reading.homeless} lines have an address without a machine: not bound, the first start binds",
            )
        )
    return found


def _about_times(reading: Reading) -> list[Text]:
    """Return what a vendor should know about validities and activations that are not in the file."""
    found = []
    if not reading.has_validity and any(card.activated_at is not None for card in reading.cards):
        found.append(
            reading.naming(
                "文件没有有效期：使用中的卡密由{expires_at}推算；没有{activated_at}的，有效期为剩余的整天数",
                "the file has no validity: that of cards in use follows from {expires_at}, and is the whole days left "
                "where there is no {activated_at}",
            )
        )
    elif reading.derived:
        found.append(
            reading.naming(
                f"{reading.derived} 张使用中的卡密没有{{activated_at}}："
                "由{expires_at}减{validity}推算；永久卡记为现在",
                f"{reading.derived} cards in use have no {{activated_at}}: it is {{expires_at}} less {{validity}}, and "
                "now for permanent cards",
            )
        )
    if reading.endless:
        found.append(
            reading.naming(
                f"{reading.endless} 张未使用卡密的{{expires_at}}为永不过期：将成为永久卡，不采用所选的有效期",
                f"{reading.endless} unused cards never expire by {{expires_at}}: they become permanent cards and "
                "do not get the validity that you chose",
            )
        )
    if reading.late:
        number, line = len(reading.late), reading.late[0]
        found.append(
            reading.naming(
                f"{number} 张卡密（如第 {line} 行）的{{expires_at}}晚于从现在起的{{validity}}：激活时间记为现在。"
                "延期过的卡密如此，否则请核对",
                f"{number} cards (such as in line {line}) have {{expires_at}} later than {{validity}} from now: "
                "they are set to begin now. That is right for extended cards; check any other",
            )
        )
    return found
