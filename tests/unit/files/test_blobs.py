"""Licensed files: their plain names, and the folder of their bytes, which are complete and durable."""

import hashlib
import io
import ntpath
import os
import sys
import time
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.files.files import Blob, check_name
from app.domain.texts import RefusedError
from app.storage.blobs import BLOCK_BYTES, SPARE_BYTES, Blobs
from tests.support.tables import for_each

CONTENT = bytes(range(256)) * 9000  # more than two blocks
BLOB = Blob(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def blobs(folder: Path) -> Blobs:
    return Blobs(folder)


def add(blobs: Blobs, content: bytes = CONTENT, size: int | None = None) -> Blob:
    with blobs.receiving(io.BytesIO(content), size) as received:
        blobs.install(received)
        return received.blob


def test_bytes_are_readable_for_everybody_under_their_digest(blobs: Blobs, folder: Path) -> None:
    umask = os.umask(0o077)
    try:
        assert add(blobs, size=len(CONTENT)) == BLOB
    finally:
        os.umask(umask)
    assert blobs.holds(BLOB)
    with blobs.open(BLOB) as file:
        assert file.read() == CONTENT
    assert [path.name for path in folder.iterdir()] == [BLOB.sha256]
    assert ((folder / BLOB.sha256).stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o644, 0o755)


def test_an_empty_file_is_a_file_and_progress_adds_up(blobs: Blobs) -> None:
    assert blobs.holds(add(blobs, b"", 0))
    done: list[int] = []
    with blobs.receiving(io.BytesIO(CONTENT), None, done.append):
        pass
    assert (len(done), sum(done)) == (3, len(CONTENT))


class Broken(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise OSError(5, "Input/output error")
        return super().read(size)


def test_what_was_not_installed_or_ends_too_early_or_late_leaves_nothing(blobs: Blobs, folder: Path) -> None:
    with blobs.receiving(io.BytesIO(CONTENT), None) as received:
        assert received.partial.stat().st_size == len(CONTENT)
    assert list(folder.iterdir()) == []
    with pytest.raises(KeyboardInterrupt), blobs.receiving(io.BytesIO(CONTENT), None):
        raise KeyboardInterrupt
    for announced in (len(CONTENT) + 1, len(CONTENT) - 1, 0):
        with pytest.raises(RefusedError, match="nothing was added"):
            add(blobs, size=announced)
    with pytest.raises(OSError, match="Input/output"), blobs.receiving(Broken(CONTENT), None):
        pass
    assert list(folder.iterdir()) == []


def test_a_file_without_room_is_refused_before_it_is_read(blobs: Blobs, folder: Path) -> None:
    source = io.BytesIO(CONTENT)
    with pytest.raises(RefusedError, match="has no room"), blobs.receiving(source, 10**18):
        pass
    assert source.tell() == 0
    assert list(folder.iterdir()) == []


def test_a_stream_that_fills_the_disk_is_refused_while_there_is_still_room_for_others(
    blobs: Blobs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(_folder: Path) -> object:
        written = sum(path.stat().st_size for path in folder.iterdir())
        return SimpleNamespace(free=SPARE_BYTES + 2 * BLOCK_BYTES - written)

    monkeypatch.setattr("app.storage.blobs.shutil.disk_usage", usage)
    with pytest.raises(RefusedError, match="has no room"), blobs.receiving(io.BytesIO(bytes(5 * BLOCK_BYTES)), None):
        pass
    assert list(folder.iterdir()) == []


def test_leftovers_of_killed_additions_are_removed_after_a_day_and_nothing_else(blobs: Blobs, folder: Path) -> None:
    add(blobs)
    yesterday = time.time() - 25 * 3600
    for name in ("vendor's own.txt", ".adding-left", ".adding-busy"):
        (folder / name).write_bytes(b"half")
        if name != ".adding-busy":
            os.utime(folder / name, (yesterday, yesterday))
    add(blobs, b"other")
    left = {path.name for path in folder.iterdir()}
    assert left == {BLOB.sha256, hashlib.sha256(b"other").hexdigest(), "vendor's own.txt", ".adding-busy"}


def test_an_open_file_outlives_its_removal_and_one_of_another_length_is_not_opened(blobs: Blobs, folder: Path) -> None:
    add(blobs)
    (folder / BLOB.sha256).write_bytes(CONTENT[:-1])
    assert not blobs.holds(BLOB)
    add(blobs)
    with blobs.open(BLOB) as file:
        assert file.read(10) == CONTENT[:10]
        blobs.remove(BLOB.sha256)
        assert not blobs.holds(BLOB)
        assert file.read() == CONTENT[10:]
    blobs.remove(BLOB.sha256)
    with pytest.raises(FileNotFoundError):
        blobs.open(BLOB)


def test_the_folders_parent_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        add(Blobs(tmp_path / "no" / "files"))
    assert not Blobs(tmp_path / "no").holds(BLOB)


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
