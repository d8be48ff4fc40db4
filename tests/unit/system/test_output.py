"""The output of the command line: harmless on a terminal, exact for programs."""
# Owns cardctl-output.

import json
import unicodedata
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli import output
from app.cli.failures import explanation
from app.domain.errors import BucketUnavailableError, ConflictError, DatabaseUnavailableError, SchemaMismatchError
from app.domain.texts import Text
from app.services.formatting import escaped, local, seconds

HARMFUL = [
    *"\x1b\x07\r\x7f\x9b",  # \x9b is CSI in one byte
    *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    *"\u2028\u2029\u200b\ufeff\U000e0041",
]


@given(st.text(st.characters()))
def test_a_control_or_bidirectional_character_is_shown_escaped(text: str) -> None:
    for character in (*HARMFUL, "\0", "\n", "\t", "\ud800"):
        assert escaped(f"a{character}b") == f"a{ascii(character)[1:-1]}b"
    other = "打开程序 Ünïcode [bold]markup[/bold] \\ 'quotes' 🔑 \U00020000"
    assert escaped(other) == other
    assert not {unicodedata.category(c) for c in escaped(text)} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_a_list_is_one_json_document_and_tables_and_messages_show_markup_and_escapes_literally(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for items in ([], [1], [{f"id{character}": f"A{character}"} for character in HARMFUL], [{"id": "打开"}, None]):
        output.print_json_list(iter(items))
        printed = capsys.readouterr().out
        assert json.loads(printed) == items
        assert (printed.endswith("]\n"), "打开" in printed) == (True, items == [{"id": "打开"}, None])
        assert not set(HARMFUL) & set(printed)
    output.print_json_list(range(3))
    assert capsys.readouterr().out == "[0,\n1,\n2]\n"
    output.print_table(("id", "note"), [("A" * 32, "[red]:key:[/red]\x1b[31m\u202e"), ("B", None)])
    printed = capsys.readouterr().out
    assert "[red]:key:[/red]\\x1b[31m\\u202e" in printed
    assert ("\x1b" in printed, "A" * 32 in printed) == (False, True)
    output.say("no such card: \x1b]0;title\x07")
    assert capsys.readouterr() == ("", "no such card: \\x1b]0;title\\x07\n")


def test_times_are_shown_in_the_vendors_zone_with_their_offset_and_validities_in_seconds() -> None:
    zone = ZoneInfo("Asia/Shanghai")
    assert local(datetime(2026, 3, 1, 20, 0, tzinfo=UTC), zone) == "2026-03-02T04:00:00+08:00"
    assert (local(None, zone), seconds(timedelta(days=30)), seconds(None)) == (None, 2_592_000, None)


def test_an_error_is_explained() -> None:
    for error, explained in (
        (KeyboardInterrupt(), "Cancelled: nothing was changed"),
        (SchemaMismatchError("run migrate"), "run migrate"),
        (DatabaseUnavailableError("refused"), "The database is unavailable: refused"),
        (BucketUnavailableError(Text("没有权限", "denied")), "The bucket is unavailable: 没有权限 / denied"),
        (ConflictError("40P01"), "nothing was changed, try again"),
        (FileNotFoundError(2, "No such file", "a"), "a: No such file"),
        (ValueError("odd"), "An internal error: ValueError: odd"),
    ):
        assert explained in explanation(error), (error, explained)
