"""Files of imported cards: rows of CSV and XLSX, however made, and how a card was used by what its line says."""

import io
import subprocess
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import xlsxwriter  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from app.console import static_files
from app.domain.cards.cards import MAX_VALIDITY, MIN_VALIDITY
from app.domain.codes import CardStatus
from app.domain.imports import Chosen, ContradictionError, Line, use_of, validity_of
from app.domain.texts import RefusedError
from app.services.imports import import_files, imports, workbook_rows
from app.services.imports.import_columns import read_header
from app.services.imports.import_files import BrokenFileError, open_rows
from app.services.imports.import_times import NEVER, read_time, read_validity

WORKSHEET = "xl/worksheets/sheet1.xml"


def rows(content: bytes) -> list[tuple[int, list[str]]]:
    with open_rows(content) as (_encoding, found):
        return list(found)


def workbook(fill: Callable[[Any], None]) -> bytes:
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as made:
        fill(made)
    return content.getvalue()


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


def test_a_file_has_its_encoding_and_its_lines() -> None:
    with open_rows('\ufeff卡号,备注\r\n\r\nABC,"a\nb"\r\nDEF\r\n'.encode()) as (encoding, found):
        assert encoding == "UTF-8"
        assert list(found) == [(1, ["卡号", "备注"]), (3, ["ABC", "a\nb"]), (5, ["DEF"])]
    with open_rows("卡号,備註€\n".encode("gb18030")) as (encoding, _):
        assert encoding == "GB18030"
    content = workbook(lambda made: made.add_worksheet().write_column(0, 0, ["x" * 1_000] * 3_000))
    with open_rows(content) as (encoding, found):
        assert (encoding, len(list(islice(found, 2)))) == ("XLSX", 2), "nothing is left running where one stops early"


def test_the_templates_have_one_line_with_headers_that_are_read() -> None:
    for language in ("zh", "en"):
        template = Path(static_files.__file__).parent / f"static/kadun-import.{language}.csv"
        as_csv, as_xlsx = (rows(file.read_bytes()) for file in (template, template.with_suffix(".xlsx")))
        assert as_csv == as_xlsx
        (header,) = as_csv
        columns, ignored, wrong = read_header(header[1], ZoneInfo("Asia/Shanghai"), is_chosen=False)
        assert (len(columns), ignored, wrong) == (9, [], [])


SPACE = b'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def sheet(rows: bytes, doctype: bytes = b"") -> bytes:
    """A workbook with such rows."""
    part = b"%b<worksheet %b><sheetData>%b</sheetData></worksheet>" % (doctype, SPACE, rows)
    return zipped(parts_of(plain()) | {WORKSHEET: part})


def test_a_hostile_or_damaged_workbook_is_refused() -> None:
    text = b'<row r="1"><c r="A1" t="inlineStr"><is><t>%b</t></is></c></row>'
    for name, content in {
        # Two cells in opposite corners: readers that fill the square between take 550 GB.
        "sparse": sheet(
            b'<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>'
        ),
        "truncated": plain()[:-200],
        "not a workbook": zipped({"a.txt": b"x"}),
        "no XML": zipped(parts_of(plain()) | {WORKSHEET: b"\0<<<"}),
        "nothing but the beginning": b"PK\x03\x04",
        "bomb": sheet(text % (b"x" * 200_000_000)),
        "old Excel": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512,
    }.items():
        with pytest.raises(RefusedError, match=r"XLSX|xlsx"):
            pytest.fail(f"{name} is read as {rows(content)}")


def test_entities_of_a_workbook_are_neither_expanded_nor_fetched() -> None:
    """A billion laughs, and a file of this machine."""
    names = ["<!ENTITY e0 'ha'>", *(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, 10))]
    doctype = f"<!DOCTYPE w [{''.join(names)}<!ENTITY f SYSTEM 'file:///etc/passwd'>]>".encode()
    try:
        found = rows(sheet(b'<row r="1"><c r="A1" t="inlineStr"><is><t>&e9;&f;root</t></is></c></row>', doctype))
    except BrokenFileError:
        return
    assert "root:" not in str(found)
    assert len(str(found)) < 10_000


def test_a_long_workbook_is_read_as_far_as_an_import_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    content = workbook(lambda made: made.add_worksheet().write_column(0, 0, ["x"] * 30))
    monkeypatch.setattr(workbook_rows, "MAX_ROWS", 20)
    output = io.StringIO()
    workbook_rows.write_rows(content, output)
    assert output.getvalue().split() == ["x"] * 20
    monkeypatch.undo()  # it passes on more than an import takes: a part would otherwise be taken for the whole
    assert workbook_rows.MAX_ROWS > imports.MAX_CARDS + 1
    assert workbook_rows.MAX_COLUMNS > imports.MAX_COLUMNS


def test_a_cell_longer_than_any_card_has_is_refused() -> None:
    long = "x" * (workbook_rows.MAX_CELL + 1)
    columns = (["卡号", cell] for cell in (long, "x" * 32_767))
    workbooks = [workbook(lambda made, c=c: made.add_worksheet("卡").write_column(0, 0, c)) for c in columns]
    for content in (f"卡号,备注\nABCDEF,{long}\n".encode(), *workbooks):
        with open_rows(content) as (_, found), pytest.raises(BrokenFileError, match="more than 4096 char") as refused:
            list(found)
        assert refused.value.line == 2


def test_the_program_that_reads_workbooks_is_given_no_setting_and_ended_where_it_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, str] = {}
    popen = subprocess.Popen

    def start(*arguments: Any, **settings: Any) -> Any:
        given.update(settings["env"])
        return popen(*arguments, **settings)

    for name in ("KERNAL_DATA_KEY", "DATABASE_URL", "KADUN_SEALING_KEY"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setattr(subprocess, "Popen", start)
    assert rows(plain())
    assert ("PATH" in given, "secret" in given.values()) == (True, False)
    (tmp_path / "reader.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(import_files, "_PROGRAM", tmp_path / "reader.py")
    monkeypatch.setattr(import_files, "WORKBOOK_SECONDS", 0.0)
    with pytest.raises(BrokenFileError, match="too large"):
        rows(plain())


NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
WHOLE = NOW.replace(microsecond=0)
DAY = timedelta(days=1)
MONTH = 30 * DAY
A, B = WHOLE - 10 * DAY, WHOLE + 25 * DAY
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
UNUSED, ACTIVE, EXPIRED, FROZEN = CardStatus.UNUSED, CardStatus.ACTIVE, CardStatus.EXPIRED, CardStatus.FROZEN


def test_a_card_is_unused_or_has_the_times_of_its_line_and_a_contradiction_names_its_column() -> None:
    for line, use in (
        *[
            (Line(validity, status=status), (None, None))
            for status in (None, UNUSED, FROZEN)
            for validity in (None, MONTH)
        ],
        (Line(MONTH, A), (A, A + MONTH)),
        (Line(MONTH, A, B, ACTIVE, "h"), (A, B)),
        (Line(MONTH, A, A + DAY, EXPIRED), (A, A + DAY)),
        (Line(MONTH, WHOLE), (WHOLE, WHOLE + MONTH)),
        (Line(MONTH, None, B), (B - MONTH, B)),
        (Line(MONTH, None, B + 90 * DAY), (WHOLE, B + 90 * DAY)),
        (Line(MONTH, None, EARLIEST + DAY), (EARLIEST, EARLIEST + DAY)),
        (Line(MONTH, EARLIEST), (EARLIEST, EARLIEST + MONTH)),
        (Line(MONTH, A, WHOLE + MAX_VALIDITY), (A, WHOLE + MAX_VALIDITY)),
        (Line(MONTH, A, WHOLE, EXPIRED), (A, WHOLE)),
        (Line(None, status=ACTIVE), (WHOLE, None)),
        (Line(None, hardware="h"), (WHOLE, None)),
        (Line(None, A, datetime(2099, 1, 1, tzinfo=UTC)), (A, None)),
    ):
        assert use_of(line, NOW) == use, (line, use)
    assert use_of(Line(MONTH, WHOLE), WHOLE) == (WHOLE, WHOLE + MONTH), "at this very moment"
    for line, column in (
        (Line(MONTH, A, status=UNUSED), "status"),
        (Line(MONTH, status=UNUSED, hardware="h"), "status"),
        (Line(MONTH, status=ACTIVE), "activated_at"),
        (Line(MONTH, status=EXPIRED), "activated_at"),
        (Line(MONTH, hardware="h"), "activated_at"),
        (Line(MONTH, WHOLE + DAY), "activated_at"),
        (Line(MONTH, datetime(1999, 12, 31, tzinfo=UTC)), "activated_at"),
        (Line(MONTH, A, A), "expires_at"),
        (Line(MONTH, A, WHOLE + 36_501 * DAY), "expires_at"),
        (Line(MONTH, None, datetime(1, 1, 2, tzinfo=UTC)), "expires_at"),
        (Line(MONTH, A, B, EXPIRED), "status"),
        (Line(None, A, B), "expires_at"),
        (Line(None, A, datetime(2098, 12, 31, tzinfo=UTC)), "expires_at"),
        (Line(None, status=EXPIRED), "status"),
    ):
        with pytest.raises(ContradictionError) as refused:
            pytest.fail(f"{line} is read as {use_of(line, NOW)}")
        assert refused.value.column == column, line


def test_a_file_without_validities_has_those_of_cards_in_use() -> None:
    for line, validity in (
        (Line(None), MONTH),
        (Line(None, None, NOW + 33 * DAY), 33 * DAY),
        (Line(None, None, NOW + 33 * DAY + timedelta(seconds=1)), 34 * DAY),
        (Line(None, None, A, EXPIRED), DAY),
        (Line(None, A, B), B - A),
        (Line(None, None, datetime(2099, 1, 1, tzinfo=UTC)), None),
    ):
        assert validity_of(line, Chosen(MONTH), NOW) == validity, line
    for line, column in (
        (Line(None), "validity"),
        (Line(None, hardware="h"), "expires_at"),
        (Line(None, A), "expires_at"),
    ):
        with pytest.raises(ContradictionError) as refused:
            validity_of(line, None, NOW)
        assert refused.value.column == column, line


moments = st.none() | st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=0))
durations = st.none() | st.integers(1, 36_500 * 86_400).map(lambda seconds: timedelta(seconds=seconds))
lines = st.builds(Line, durations, moments, moments, st.none() | st.sampled_from(CardStatus), st.none() | st.just("h"))


@given(lines, st.booleans())
def test_every_line_is_a_card_that_the_database_takes_or_a_contradiction(line: Line, has_validity: bool) -> None:  # noqa: FBT001
    try:
        if not has_validity:
            line = line._replace(validity=validity_of(line, Chosen(line.validity), NOW))
            assert line.validity is None or MIN_VALIDITY <= line.validity <= MAX_VALIDITY
        activated_at, expires_at = use_of(line, NOW)
    except ContradictionError:
        return
    if activated_at is None:
        assert expires_at is None
        return
    assert activated_at <= NOW
    assert (expires_at is None) == (line.validity is None)
    assert expires_at is None or expires_at > activated_at


ZONE = ZoneInfo("Asia/Shanghai")
MARCH = datetime(2026, 3, 1, tzinfo=ZONE)


def test_durations_are_read_as_people_write_them() -> None:
    for days, cells in (
        (1, "天卡,日卡,1天,1d,day,24h,24小时,1日,1 Day"),
        (7, "周卡,1周,7天,7d,week,1w,1星期,1周卡"),
        (30, "月卡,1月,1个月,30天,30d,month,1 month,30D,30天卡,1mo"),
        (60, "2个月,2 months,60days"),
        (90, "季卡,1季,1季度,quarter,90d,3个月"),
        (180, "半年,半年卡,6个月"),
        (365, "年卡,1年,365d,year,1 year,1y,12mo,12个月,365天"),
        (730, "2年,2years,24个月,730天"),
    ):
        for cell in cells.split(","):
            assert read_validity(f" {cell} ") == days * DAY, cell
    for cell in ("永久", "永久卡", "终身", "permanent", "Lifetime", "不限时"):
        assert read_validity(cell) is None
    units = {("30", "d"): 30 * DAY, ("12", "h"): DAY / 2, ("1", "month"): MONTH, ("30.0", "d"): MONTH}
    for (number, unit), duration in {**units, ("1", "s"): timedelta(seconds=1)}.items():
        assert read_validity(number, unit) == duration, (number, unit)
    for other in ("", "VIP", "30", "1M", "0天", "101年", "-1天", "1.5天", "1年2个月", "一个月", "2026-03-01", "天天"):
        with pytest.raises(RefusedError):
            pytest.fail(f"{other} is read as {read_validity(other)}")
    # A pattern that tries each place of a long text would hold up the whole process for minutes.
    for text in ("卡" * 1_000_000 + "x", "会员" * 500_000, "1" + " " * 1_000_000 + "天"):
        with pytest.raises(RefusedError, match="is no duration"):
            read_validity(text)


def test_times_are_read_in_the_vendors_zone() -> None:
    for at, cells in (
        (MARCH, "2026-03-01|2026/3/1|2026.03.01|2026年3月1日|2026-03-01T00:00:00+08:00"),
        (MARCH.replace(hour=8), "2026-03-01T00:00:00Z"),
        (MARCH.replace(hour=9, minute=5), "2026/3/1 9:05|2026年3月1日9:05|2026-03-01T09:05"),
        (MARCH.replace(hour=9, minute=5, second=7), "2026-03-01 09:05:07|2026-03-01 09:05:07.250"),
    ):
        for cell in cells.split("|"):
            found = read_time(f" {cell} ", ZONE)
            assert (found, found and found.tzinfo) == (at, UTC), cell
    # An expiry without a time is the end of its day, and one may never come.
    for cell in ("2026-03-01", "2026/3/1", "2026年3月1日"):
        assert read_time(cell, ZONE, at_end=True) == MARCH + DAY, cell
    assert read_time("2026-03-01 00:00", ZONE, at_end=True) == MARCH
    for cell in ("", " ", "-", "—", "无", "0", "NULL", "None", "0000-00-00 00:00:00", "1970-01-01 08:00:00"):
        assert read_time(cell, ZONE) is None, cell
    for cell in ("永不过期", "永久", "9999-12-31", "9999/12/31 23:59:59", "9999-12-31T23:59:59+08:00"):
        assert read_time(cell, ZONE, at_end=True) == NEVER, cell
    for other in (
        *("3/1/2026", "1-Mar-26", "2026-02-30", "2026-13-01", "26-03-01", "soon", "12", "46082", "2026-03-01 25:00"),
        *("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+14:00", "2026-03", "1772294400", "####"),
    ):
        with pytest.raises(RefusedError, match="2026-03-01"):
            pytest.fail(f"{other} is read as {read_time(other, ZONE)}")


@given(st.text(max_size=30), st.booleans())
def test_any_text_is_read_or_refused(cell: str, at_end: bool) -> None:  # noqa: FBT001  # hypothesis
    for read in (lambda: read_time(cell, ZONE, at_end=at_end), lambda: read_validity(cell)):
        with suppress(RefusedError):
            read()


def zipped(parts: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in parts.items():
            made.writestr(name, content)
    return target.getvalue()


def parts_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        return {name: source.read(name) for name in source.namelist()}
