"""Names of licensed files: plain names on every system are accepted, all others refused."""

import ntpath
import sys
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.files import check_name
from app.domain.texts import RefusedError
from tests.support.tables import for_each

GOOD = [
    "core.age", "a", "数据 v1.2 (新).bin", "データ.zip", "Ünïcode-name.tar.gz", "x" * 100, "名" * 100, "_private",
    "(1).txt", "[x]", "@scope,v=1~rc+2.js", "हिन्दी.txt", "console.txt", "com10", "nul2", "a..b", "٣.txt", "=x",
]  # fmt: skip
BAD = {
    "": "1 to 100",
    "x" * 101: "1 to 100",
    ".": "must not begin",
    "..": "must not begin",
    ".hidden": "must not begin",
    "-rf": "must not begin",
    "~root": "must not begin",
    " a": "must not begin",
    "\u0301a": "must not begin",
    "a ": "must not end",
    "a.": "must not end",
    "a/b": "U+002F",
    "/etc/passwd": "U+002F",
    "a\\b": "U+005C",
    "C:": "U+003A",
    "a*": "U+002A",
    "a?": "U+003F",
    'a"': "U+0022",
    "a<b": "U+003C",
    "a>b": "U+003E",
    "a|b": "U+007C",
    "a%2fb": "U+0025",
    "a#b": "U+0023",
    "a&b": "U+0026",
    "a$b": "U+0024",
    "a;b": "U+003B",
    "a'b": "U+0027",
    "a\0b": "U+0000",
    "a\nb": "U+000A",
    "a\x7fb": "U+007F",
    "a\u202etxt.exe": "U+202E",
    "a\u200bb": "U+200B",
    "a\u00a0b": "U+00A0",
    "a\u3000b": "U+3000",
    "a\ufeff": "U+FEFF",
    "\ud800": "U+D800",
    "a\u115f": "U+115F",
    "a\ufe0f": "U+FE0F",
    "a\u034fb": "U+034F",
    "😀": "U+1F600",
    "a\u2215b": "U+2215",
    "a\uff0fb": "U+FF0F",
    "a\u2024b": "U+2024",
    "ａ.txt": "look-alike",
    "e\u0301.txt": "look-alike",
    "ﬁle": "look-alike",
    "x²": "look-alike",
    "Ⅷ": "look-alike",
    "CON": "device",
    "con.txt": "device",
    "Nul.tar.gz": "device",
    "aux": "device",
    "COM1.log": "device",
    "lpt9": "device",
    "prn .txt": "device",
}


@for_each("name", GOOD)
def test_a_plain_name_in_any_script_is_accepted(name: str) -> None:
    check_name(name)


@for_each("name", BAD)
def test_any_other_name_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(RefusedError) as refused:
        check_name(name)
    assert BAD[name] in refused.value.text.en
    assert refused.value.text.zh.startswith("文件名")
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(("name", "shown"), [("老王/b", "老王/b"), ("\n\t", "\\n\\t")])
def test_a_refusal_shows_the_name_on_one_line(name: str, shown: str) -> None:
    with pytest.raises(RefusedError) as refused:
        check_name(name)
    assert refused.value.text.en.startswith(f"the file name {shown} must not hold ")
    assert refused.value.text.zh.startswith(f"文件名 {shown} 不能含有字符 ")


def test_the_refusal_of_a_look_alike_says_what_would_be_right() -> None:
    with pytest.raises(RefusedError, match=r"data\.bin would be right"):
        check_name("ｄａｔａ.bin")


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("./\\:%~ CONcon1")), max_size=120))
def test_an_accepted_name_is_one_path_segment_on_every_system_and_survives_url_quoting(name: str) -> None:
    try:
        check_name(name)
    except RefusedError:
        return
    assert PurePosixPath(name).name == PureWindowsPath(name).name == name
    assert not (ntpath.isreserved(name) if sys.version_info >= (3, 13) else PureWindowsPath(name).is_reserved())
    assert unicodedata.normalize("NFKC", name) == unicodedata.normalize("NFC", name) == name
    assert name.isprintable()
    assert unquote(quote(name)) == name
