"""scripts/lib/archive.py: the format of backups and moves, whole, damaged and hostile."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import archive
import pytest

from tests.support.archives import CONTENTS, packed, staged
from tests.support.tables import for_each

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # the SHA-256 of nothing
MEMBERS = {"database.dump": EMPTY, "data/a": EMPTY, "data/b": EMPTY}
WHOLE: dict[str, Any] = {
    "format": archive.FORMAT, "schema": "0007_x", "tables": {"card": [2, "17"]}, "files": {}, "members": MEMBERS,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return what a move takes along."""
    folder = staged(tmp_path / "staged")
    (folder / "data/keys").mkdir(parents=True)
    (folder / "data/empty").mkdir()
    (folder / "database.dump").write_bytes(b"\0\xff" * 100_000)
    (folder / "data/keys/keyring.json").write_text("{}")
    (folder / "data/keys/keyring.json").chmod(0o600)
    return folder


def check(content: bytes) -> archive.Manifest:
    return archive.read(io.BytesIO(content), lambda _: None)


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return output.getvalue()


def manifest_member(**changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    content = {name: value for name, value in (WHOLE | changes).items() if value is not None}
    return tarfile.TarInfo(archive.MANIFEST), json.dumps(content).encode()


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info, b""


def test_an_unpacked_archive_is_what_was_packed(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "unpacked"
    target.mkdir()
    manifest = archive.unpack(io.BytesIO(packed(folder, created="now")), target)
    names = {"manifest.json", "database.dump", "data", "data/keys", "data/keys/keyring.json"}
    assert {str(path.relative_to(target)) for path in target.rglob("*")} == names
    assert (target / "database.dump").read_bytes() == (folder / "database.dump").read_bytes()
    assert (target / "data/keys/keyring.json").stat().st_mode & 0o777 == 0o600
    assert (manifest["created"], manifest["schema"], manifest["bytes"]) == ("now", "0007_x", "8192")
    assert (manifest["tables"]["card"], manifest["files"]) == ([2, "17"], {"a file.bin": "a" * 64})
    assert json.loads((target / archive.MANIFEST).read_text()) == manifest
    (tmp_path / "a.tar").write_bytes(packed(folder))
    listed = subprocess.run(["tar", "-tf", tmp_path / "a.tar"], capture_output=True, text=True, check=True).stdout
    assert listed.splitlines()[0] == archive.MANIFEST, "standard tar reads it"


def test_neither_the_name_of_a_licensed_file_nor_the_database_tells_a_fact_of_the_manifest(folder: Path) -> None:
    """The service's role of the database may write such a name; every backup would then be unreadable."""
    contents = CONTENTS.format(digest="a" * 64)
    for line_break in ("\u2028", "\u2029", "\x85", "\v", "\f", "\x1c"):
        name = "".join(f"a file{line_break}{fact}" for fact in ("format 9", "schema 9999_z", "trial /x", "bytes x"))
        (folder / archive.CONTENTS).write_text(contents.replace("a file.bin", name), newline="")
        manifest = check(packed(folder))
        assert (manifest["format"], manifest["schema"], manifest["bytes"]) == (archive.FORMAT, "0007_x", "8192")
        assert ("trial" in manifest, manifest["files"]) == (False, {name: "a" * 64}), line_break
    for line in ("format 9", "members x", "signature x", "number 1"):
        (folder / archive.CONTENTS).write_text(f"{contents}{line}\n")
        with pytest.raises(archive.ArchiveError, match="an unknown line in the database's contents"):
            packed(folder)


def test_a_hostile_archive_takes_no_more_than_its_share_of_memory(tmp_path: Path) -> None:
    for kind in (tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME):
        info = tarfile.TarInfo(archive.MANIFEST)
        info.type, info.size = kind, 2 << 30
        with (tmp_path / "archive").open("wb") as file:
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            file.truncate(3 << 30)
        words = (sys.executable, "-B", "-E", "-s", "-S", archive.__file__, "check")
        with (tmp_path / "archive").open("rb") as given, (tmp_path / "said").open("wb") as said:
            process = subprocess.Popen(words, stdin=given, stdout=said, stderr=said)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 1
        assert usage.ru_maxrss < 1 << 20, "KiB"
        assert (tmp_path / "said").read_bytes().count(b"\n") == 1, kind


def test_what_could_not_be_read_again_is_not_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump = (folder / "database.dump").rename(folder.parent / "dump")
    with pytest.raises(archive.ArchiveError, match="lists no database"):
        packed(folder)
    dump.rename(folder / "database.dump")
    monkeypatch.setattr(archive, "MAX_MANIFEST_BYTES", 300)
    with pytest.raises(archive.ArchiveError, match="the manifest is too large: "):
        packed(folder)


PARTS = [*map(member, MEMBERS), member("data/c", tarfile.DIRTYPE)]
WHOLE_TAR = tar_of(manifest_member(), *PARTS)
END = WHOLE_TAR.index(b"data/c")
OUTSIDE = ("../outside", "/outside", "data/functions/../../outside")


@for_each(
    "hostile",
    [
        *map(member, (*OUTSIDE, "not in the manifest")),
        *(member("data/link", kind) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE)),
        member("data/keys/keyring.json"),  # without its folder
    ],
)
def test_a_member_that_no_archive_of_ours_holds_is_refused(
    tmp_path_factory: pytest.TempPathFactory, hostile: tuple[tarfile.TarInfo, bytes]
) -> None:
    listed = MEMBERS | dict.fromkeys((*OUTSIDE, "data/link", "data/keys/keyring.json"), EMPTY)
    target = tmp_path_factory.mktemp("hostile") / "target"
    (target / "data/functions").mkdir(parents=True)
    with pytest.raises(archive.ArchiveError):
        archive.unpack(io.BytesIO(tar_of(manifest_member(members=listed), hostile)), target)
    assert [path.name for path in target.parent.rglob("*")] == ["target", "data", "functions"]


NOT_OURS = [
    (b"", "damaged or cut off"),
    (b"PGDMP" * 1000, "damaged or cut off"),
    (tar_of((tarfile.TarInfo("manifest"), b"format=1\n")), "has no manifest"),
    (tar_of((tarfile.TarInfo(archive.MANIFEST), b"{")), "has no manifest"),
    (tar_of((tarfile.TarInfo(archive.MANIFEST), b'{"format": 3}')), "this version reads 2: update"),
    *((WHOLE_TAR[: END + kept], "damaged or cut off") for kept in (0, 100, 512, 600)),
    (WHOLE_TAR[:END] + b"x" + WHOLE_TAR[END + 1 :], "damaged or cut off"),
    (WHOLE_TAR + tar_of(member("data/d")), "something follows after the end"),
]
MANIFESTS: list[tuple[dict[str, Any], str]] = [
    # Scripts calculate with it.
    *(({"bytes": size}, "no valid number of this: bytes") for size in ("PATH[$(id)]", "\u0663", "", "-1", ["1"])),
    *(({"members": members}, "lacks this part: members") for members in ({}, ["database.dump"])),
    *(
        ({"members": members}, "lists no database")
        for members in ({"data/a": EMPTY}, MEMBERS | {archive.MANIFEST: EMPTY}, MEMBERS | {"database.sql": EMPTY})
    ),
    *(({part: None}, f"lacks this part: {part}") for part in ("members", "schema", "tables", "files")),
]
ORDERS = [
    ([manifest_member(), (tarfile.TarInfo("database.dump"), b"x"), *PARTS[1:]], r"does not match: database\.dump"),
    (PARTS, "it has no manifest"),
    ([PARTS[0], manifest_member(), *PARTS[1:]], "it has no manifest"),
    ([manifest_member(), *PARTS[1:]], r"database\.dump is missing"),
    ([manifest_member(), *PARTS[:2], PARTS[3]], "data/b is missing"),
    ([manifest_member(), *PARTS, PARTS[0]], r"does not list it: database\.dump"),
    ([manifest_member(), *PARTS, PARTS[-1]], "it occurs twice: data/c"),
    ([manifest_member(), manifest_member(), *PARTS], r"does not list it: manifest\.json"),
    # It could stand for more bytes than anybody can read.
    ([manifest_member(), member("database.dump", tarfile.GNUTYPE_SPARSE)], r"neither a file nor a folder: database"),
]


@for_each(
    "content, complaint",
    [
        *NOT_OURS,
        *((tar_of(manifest_member(**changes), *PARTS), complaint) for changes, complaint in MANIFESTS),
        *((tar_of(*members), complaint) for members, complaint in ORDERS),
    ],
)
def test_what_is_not_a_whole_archive_of_this_format_is_refused_with_the_reason(content: bytes, complaint: str) -> None:
    assert check(WHOLE_TAR) == WHOLE
    with pytest.raises(archive.ArchiveError, match=complaint):
        check(content)


def test_differences_are_named_by_table(folder: Path) -> None:
    manifest = check(packed(folder))
    assert list(archive.differences(manifest, archive.parse_contents(CONTENTS))) == []
    other = archive.parse_contents("schema 0008_y\ntable client 1 4\ntable schema_migration 8 6\ntable card 2 18\n")
    named = ["schema 0007_x 0008_y", "table card (2, 2)", "table client (missing, 1)", "table schema_migration (7, 8)"]
    assert list(archive.differences(manifest, other)) == named
    assert list(archive.differences(manifest | {"trial": "/somewhere"}, other)) == named[:-1]


def test_the_command_line_checks_and_answers(folder: Path, tmp_path: Path) -> None:
    def run(*arguments: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
        command = (sys.executable, "-B", "-E", "-s", "-S", archive.__file__, *arguments)
        return subprocess.run(command, input=given, capture_output=True, check=False, env=os.environ)

    content = run("pack", str(folder), "project=shop=1", given=b"").stdout
    manifest = run("check", given=content).stdout
    member = ("member", str(tmp_path), "database.dump")
    assert run(*member, given=content).stdout == (folder / "database.dump").read_bytes()
    exchanged = run(*member, given=content.replace(b"\0\xff" * 9, b"\0\xfe" * 9))
    assert (exchanged.returncode, exchanged.stdout) == (1, b""), "PostgreSQL sees none of a dump that nobody signed"
    assert list(tmp_path.iterdir()) == [folder]
    for arguments, printed in (
        (("fact", "project"), b"shop=1"),
        (("fact", "trial"), b""),
        (("summary", "card", "client"), b"card 2"),
        (("missing", str(tmp_path)), b"a file.bin"),
    ):
        assert run(*arguments, given=manifest).stdout == printed
    contents = folder / archive.CONTENTS
    assert run("compare", str(contents), given=manifest).returncode == 0
    contents.write_text(contents.read_text().replace("card 2", "card 3"))
    differs = run("compare", str(contents), given=manifest)
    assert (differs.returncode, differs.stderr) == (1, b"table card (2, 3)\n")
    assert run("check", "--accept-unsigned", given=content).stderr.startswith(archive.__doc__.encode()[:50])
    untrusted = run("check", "--keys", "/nowhere", "--fingerprint", "-key", given=content)
    assert (untrusted.returncode, untrusted.stdout, untrusted.stderr.count(b"\n")) == (archive.UNTRUSTED, b"", 1)
    assert run("check", "--keys", "/nowhere", "--accept-unsigned", given=content).stdout == manifest
    damaged = run("check", given=content[:700])
    assert (damaged.returncode, damaged.stdout, damaged.stderr.count(b"\n")) == (1, b"", 1)
