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
    "1 to 100": ["", "x" * 101],
    "must not begin": [".", "..", ".hidden", "-rf", "~root", " a", "\u0301a"],
    "must not end": ["a ", "a."],
    "U+002F": ["a/b", "/etc/passwd"],
    **{
        f"U+{ord(character):04X}": [f"a{character}b"] for character in "\\*?\"<>|%#&$;'\0\n\x7f\u202e\u200b\u00a0\u3000"
    },
    **{f"U+{ord(character):04X}": [f"a{character}b"] for character in "\ufeff\u115f\ufe0f\u034f\u2215\uff0f\u2024"},
    "U+003A": ["C:"],
    "U+D800": ["\ud800"],
    "U+1F600": ["😀"],
    "look-alike": ["ａ.txt", "e\u0301.txt", "ﬁle", "x²", "Ⅷ"],
    "device": ["CON", "con.txt", "Nul.tar.gz", "aux", "COM1.log", "lpt9", "prn .txt"],
}


@for_each("name", GOOD)
def test_a_plain_name_in_any_script_is_accepted(name: str) -> None:
    check_name(name)


@for_each("reason, names", BAD.items())
def test_any_other_name_is_refused_with_the_reason(reason: str, names: list[str]) -> None:
    for name in names:
        with pytest.raises(RefusedError) as refused:
            check_name(name)
        assert reason in refused.value.text.en, name
        assert refused.value.text.zh.startswith("文件名")
        assert str(refused.value).isprintable()


@for_each("name, shown", [("老王/b", "老王/b"), ("\n\t", "\\n\\t")])
def test_a_refusal_shows_the_name_on_one_line(name: str, shown: str) -> None:
    with pytest.raises(RefusedError) as refused:
        check_name(name)
    assert refused.value.text.en.startswith(f"the file name {shown} must not hold ")
    assert refused.value.text.zh.startswith(f"文件名 {shown} 不能含有字符 ")
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
