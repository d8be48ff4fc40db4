"""Rows of an imported file: CSV as text, and XLSX, however it was made."""

import io
import subprocess
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import xlsxwriter  # type: ignore[import-untyped]

from app.console import static_files
from app.domain.texts import RefusedError
from app.services.imports import import_files, imports, workbook_rows
from app.services.imports.import_columns import read_header
from app.services.imports.import_files import BrokenFileError, open_rows
from tests.support.tables import for_each

WORKSHEET = "xl/worksheets/sheet1.xml"
TEMPLATES = Path(static_files.__file__).parent / "static"


def rows(content: bytes) -> list[tuple[int, list[str]]]:
    with open_rows(content) as (_encoding, found):
        return list(found)


def workbook(fill: Callable[[Any], None]) -> bytes:
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as made:
        fill(made)
    return content.getvalue()


def zipped(parts: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in parts.items():
            made.writestr(name, content)
    return target.getvalue()


def changed(content: bytes, changes: dict[str, bytes]) -> bytes:
    """The workbook with other parts."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        return zipped({name: source.read(name) for name in source.namelist()} | changes)


def plain() -> bytes:
    return workbook(lambda made: made.add_worksheet("卡").write_row(0, 0, ["卡号", "有效期"]))


def test_cells_of_a_workbook_are_what_a_person_would_have_typed() -> None:
    def fill(made: Any) -> None:
        made.add_worksheet("空")
        made.add_worksheet("藏").hide()
        sheet = made.add_worksheet("卡")
        day, minute = made.add_format({"num_format": "yyyy/m/d"}), made.add_format({"num_format": "yyyy/m/d h:mm"})
        sheet.write_row(2, 1, ["卡号", "日期", "时间", "数", "长", "序", "真", "字"])
        sheet.write_string(4, 1, '00123,"45"\n6')
        sheet.write_datetime(4, 2, datetime(2026, 3, 1), day)  # noqa: DTZ001  # as spreadsheets have them
        sheet.write_datetime(4, 3, datetime(2026, 3, 1, 12, 30, 7), minute)  # noqa: DTZ001
        sheet.write_row(4, 4, [30, 6_217_000_012_345_678, 46082.5, True, " x "])

    (first, head), (second, line) = rows(workbook(fill))
    assert (first, second) == (3, 5)
    days = ["2026-03-01", "2026-03-01 12:30:07"]
    found = [cell for cell in line if cell]
    assert found == ['00123,"45"\n6', *days, "30", "6.21700E+15", "46082.5", "True", " x "]
    assert head.index("卡号") == line.index('00123,"45"\n6')
    others = {timedelta(hours=30): "1 day, 6:00:00", 0.5: "0.5", -3.0: "-3", "": ""}
    assert {value: workbook_rows.text_of(value) for value in others} == others


def test_a_csv_file_has_its_encoding_and_its_lines() -> None:
    with open_rows('\ufeff卡号,备注\r\n\r\nABC,"a\nb"\r\nDEF\r\n'.encode()) as (encoding, found):
        assert encoding == "UTF-8"
        assert list(found) == [(1, ["卡号", "备注"]), (3, ["ABC", "a\nb"]), (5, ["DEF"])]
    with open_rows("卡号,備註€\n".encode("gb18030")) as (encoding, _):
        assert encoding == "GB18030"


def test_the_templates_have_one_line_with_headers_that_are_read() -> None:
    for language in ("zh", "en"):
        files = [TEMPLATES / f"kadun-import.{language}.{kind}" for kind in ("csv", "xlsx")]
        as_csv, as_xlsx = (rows(file.read_bytes()) for file in files)
        assert as_csv == as_xlsx
        (header,) = as_csv
        columns, ignored, wrong = read_header(header[1], ZoneInfo("Asia/Shanghai"), is_chosen=False)
        assert (len(columns), ignored, wrong) == (9, [], [])


SPACE = b'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def sheet(rows: bytes, doctype: bytes = b"") -> bytes:
    """A workbook with such rows."""
    part = b"%b<worksheet %b><sheetData>%b</sheetData></worksheet>" % (doctype, SPACE, rows)
    return changed(plain(), {WORKSHEET: part})


def sparse() -> bytes:
    """Two cells in opposite corners: readers that fill the square between take 550 GB."""
    first, last = b'<row r="1"><c r="A1"><v>1</v></c></row>', b'<row r="1048576"><c r="XFD1048576"><v>2</v></c></row>'
    return sheet(first + last)


def entities() -> bytes:
    """A billion laughs, and a file of this machine."""
    names = ["<!ENTITY e0 'ha'>", *(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, 10))]
    doctype = f"<!DOCTYPE w [{''.join(names)}<!ENTITY f SYSTEM 'file:///etc/passwd'>]>".encode()
    return sheet(b'<row r="1"><c r="A1" t="inlineStr"><is><t>&e9;&f;root</t></is></c></row>', doctype)


HOSTILE = {
    "sparse": sparse,
    "truncated": lambda: plain()[:-200],
    "not a workbook": lambda: zipped({"a.txt": b"x"}),
    "no XML": lambda: changed(plain(), {WORKSHEET: b"\0<<<"}),
    "nothing but the beginning": lambda: b"PK\x03\x04",
    "bomb": lambda: sheet(b'<row r="1"><c r="A1" t="inlineStr"><is><t>%b</t></is></c></row>' % (b"x" * 200_000_000)),
    "old Excel": lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512,
}


@for_each("name", HOSTILE)
def test_a_hostile_or_damaged_workbook_is_refused(name: str) -> None:
    with pytest.raises(RefusedError, match=r"XLSX|xlsx"):
        rows(HOSTILE[name]())


def test_entities_of_a_workbook_are_neither_expanded_nor_fetched() -> None:
    try:
        found = rows(entities())
    except BrokenFileError:
        return
    assert "root:" not in str(found)
    assert len(str(found)) < 10_000


def test_a_reader_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reader.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(import_files, "_PROGRAM", tmp_path / "reader.py")
    monkeypatch.setattr(import_files, "WORKBOOK_SECONDS", 0.0)
    with pytest.raises(BrokenFileError, match="too large"):
        rows(plain())


def test_a_long_workbook_is_read_as_far_as_an_import_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    content = workbook(lambda made: made.add_worksheet().write_column(0, 0, ["x"] * 30))
    monkeypatch.setattr(workbook_rows, "MAX_ROWS", 20)
    output = io.StringIO()
    workbook_rows.write_rows(content, output)
    assert output.getvalue().split() == ["x"] * 20
    monkeypatch.undo()  # it passes on more than an import takes: a part would otherwise be taken for the whole
    assert workbook_rows.MAX_ROWS > imports.MAX_CARDS + 1
    assert workbook_rows.MAX_COLUMNS > imports.MAX_COLUMNS


def test_nothing_is_left_running_where_the_caller_stops_early() -> None:
    content = workbook(lambda made: made.add_worksheet().write_column(0, 0, ["x" * 1_000] * 3_000))
    with open_rows(content) as (encoding, found):
        assert encoding == "XLSX"
        assert len(list(islice(found, 2))) == 2


LONG = "x" * (workbook_rows.MAX_CELL + 1)


@for_each(
    "content",
    [
        f"卡号,备注\nABCDEF,{LONG}\n".encode(),
        workbook(lambda made: made.add_worksheet("卡").write_column(0, 0, ["卡号", LONG])),
        workbook(lambda made: made.add_worksheet("卡").write_column(0, 0, ["卡号", "x" * 32_767])),
    ],
)
def test_a_cell_longer_than_any_card_has_is_refused(content: bytes) -> None:
    with open_rows(content) as (_, found), pytest.raises(BrokenFileError, match="more than 4096 characters") as refused:
        list(found)
    assert refused.value.line == 2


def test_the_program_that_reads_workbooks_is_given_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, str] = {}
    popen = subprocess.Popen

    def start(*arguments: Any, **settings: Any) -> Any:
        given.update(settings["env"])
        return popen(*arguments, **settings)

    for name in ("KERNAL_DATA_KEY", "DATABASE_URL", "KADUN_SEALING_KEY"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setattr(subprocess, "Popen", start)
    assert rows(plain())
    assert "PATH" in given
    assert "secret" not in given.values()
