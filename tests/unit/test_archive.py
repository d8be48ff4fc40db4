"""scripts/lib/archive.py: the format of backups and moves, whole, damaged and hostile."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from scripts.lib import archive

CONTENTS = "schema 0007_x\ntable card 2 17\ntable schema_migration 7 5\nfile {digest} a file.bin\nbytes 8192\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return what a move takes along."""
    folder = tmp_path / "staged"
    (folder / "data/keys").mkdir(parents=True)
    (folder / "data/empty").mkdir()
    (folder / "database.dump").write_bytes(b"\0\xff" * 100_000)
    (folder / "data/keys/keyring.json").write_text("{}")
    (folder / "data/keys/keyring.json").chmod(0o600)
    (folder / archive.CONTENTS).write_text(CONTENTS.format(digest="a" * 64))
    return folder


def packed(folder: Path, **facts: str) -> bytes:
    output = io.BytesIO()
    archive.pack(folder, facts, output)
    return output.getvalue()


def check(content: bytes) -> archive.Manifest:
    return archive.read(io.BytesIO(content), lambda _: None)


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return output.getvalue()


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # the SHA-256 of nothing
MEMBERS = {"database.dump": EMPTY, "data/a": EMPTY, "data/b": EMPTY}
WHOLE: dict[str, Any] = {
    "format": archive.FORMAT, "schema": "0007_x", "tables": {"card": [2, "17"]}, "files": {}, "members": MEMBERS,
}  # fmt: skip


def manifest_member(**changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    content = {name: value for name, value in (WHOLE | changes).items() if value is not None}
    return tarfile.TarInfo(archive.MANIFEST), json.dumps(content).encode()


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    return info, b""


def test_an_unpacked_archive_is_what_was_packed(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "unpacked"
    target.mkdir()
    manifest = archive.unpack(io.BytesIO(packed(folder, created="now")), target)
    assert {str(path.relative_to(target)) for path in target.rglob("*")} == {
        *("manifest.json", "database.dump", "data", "data/keys", "data/keys/keyring.json")
    }
    assert (target / "database.dump").read_bytes() == (folder / "database.dump").read_bytes()
    assert (target / "data/keys/keyring.json").stat().st_mode & 0o777 == 0o600
    assert manifest["created"] == "now"
    assert (manifest["schema"], manifest["bytes"], manifest["tables"]["card"]) == ("0007_x", "8192", [2, "17"])
    assert manifest["files"] == {"a file.bin": "a" * 64}
    assert json.loads((target / archive.MANIFEST).read_text()) == manifest


def test_standard_tar_reads_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(packed(folder))
    listed = subprocess.run(["tar", "-tf", tmp_path / "a.tar"], capture_output=True, text=True, check=True).stdout
    assert listed.splitlines()[0] == archive.MANIFEST


@pytest.mark.parametrize("kept", [0, 100, 512, 700, 5000, 100_000])
def test_one_that_is_cut_off_anywhere_is_refused(folder: Path, kept: int) -> None:
    with pytest.raises(archive.ArchiveError):
        check(packed(folder)[:kept])


def test_a_changed_byte_is_found(folder: Path) -> None:
    content = bytearray(packed(folder))
    content[len(content) // 2] ^= 1
    with pytest.raises(archive.ArchiveError, match=r"checksum does not match: database\.dump"):
        check(bytes(content))


@pytest.mark.parametrize("size", ["PATH[$(id)]", "1 2", "\u0663", "", "-1", ["1"]])
def test_the_size_that_scripts_calculate_with_is_a_number(size: object) -> None:
    with pytest.raises(archive.ArchiveError, match=r"no valid number of this: bytes"):
        check(tar_of(manifest_member(bytes=size), *PARTS))
    assert check(tar_of(manifest_member(bytes="8192"), *PARTS))["bytes"] == "8192"


def link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("data/link")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    "member",
    [
        (tarfile.TarInfo("../outside"), b""),
        (tarfile.TarInfo("/outside"), b""),
        (tarfile.TarInfo("not in the manifest"), b""),
        (link(tarfile.SYMTYPE), b""),
        (link(tarfile.LNKTYPE), b""),
        (link(tarfile.CHRTYPE), b""),
    ],
    ids=["above", "absolute", "unlisted", "symbolic link", "hard link", "device"],
)
def test_a_member_that_no_archive_of_ours_holds_is_refused(
    member: tuple[tarfile.TarInfo, bytes], tmp_path: Path
) -> None:
    listed = MEMBERS | dict.fromkeys(("../outside", "/outside", "data/link"), EMPTY)
    target = tmp_path / "target"
    (target / "data").mkdir(parents=True)
    with pytest.raises(archive.ArchiveError):
        archive.unpack(io.BytesIO(tar_of(manifest_member(members=listed), member)), target)
    assert [path.name for path in target.rglob("*")] == ["data"]


PARTS = [*map(member, MEMBERS), member("data/c", tarfile.DIRTYPE)]


def test_an_archive_with_every_part_is_read() -> None:
    assert check(tar_of(manifest_member(), *PARTS)) == WHOLE


@pytest.mark.parametrize("part", range(len(MEMBERS) + 1))
def test_one_that_lost_a_member_is_refused(part: int) -> None:
    members = [manifest_member(), *map(member, MEMBERS)]
    lost = members.pop(part)[0].name
    complaint = "it has no manifest" if lost == archive.MANIFEST else f"{lost} is missing"
    with pytest.raises(archive.ArchiveError, match=complaint):
        check(tar_of(*members))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"members": None}, "lacks this part: members"),
        ({"members": {}}, "lacks this part: members"),
        ({"members": ["database.dump"]}, "lacks this part: members"),
        ({"members": {"data/a": EMPTY}}, "lists no database"),
        ({"members": MEMBERS | {archive.MANIFEST: EMPTY}}, "lists no database"),
        ({"members": MEMBERS | {"database.sql": EMPTY}}, "lists no database"),
        ({"schema": None}, "lacks this part: schema"),
        ({"schema": ""}, "lacks this part: schema"),
        ({"tables": None}, "lacks this part: tables"),
        ({"tables": {}}, "lacks this part: tables"),
        ({"files": None}, "lacks this part: files"),
    ],
)
def test_one_whose_manifest_lost_a_part_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(archive.ArchiveError, match=complaint):
        check(tar_of(manifest_member(**changes), *PARTS))


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([PARTS[0], manifest_member(), *PARTS[1:]], "it has no manifest"),
        ([manifest_member(), *PARTS, PARTS[0]], r"does not list it: database\.dump"),
        ([manifest_member(), *PARTS, PARTS[-1]], "it occurs twice: data/c"),
        ([manifest_member(), manifest_member(), *PARTS], r"does not list it: manifest\.json"),
        ([manifest_member(), *PARTS, member("data/d")], "does not list it: data/d"),
    ],
    ids=["manifest later", "file twice", "folder twice", "manifest twice", "foreign file"],
)
def test_one_with_reordered_repeated_or_foreign_members_is_refused(
    members: list[tuple[tarfile.TarInfo, bytes]], complaint: str
) -> None:
    with pytest.raises(archive.ArchiveError, match=complaint):
        check(tar_of(*members))


def test_a_file_without_its_folder_is_refused(tmp_path: Path) -> None:
    members = [manifest_member(members=MEMBERS | {"data/keys/keyring.json": EMPTY}), *PARTS]
    with pytest.raises(archive.ArchiveError, match="damaged or cut off"):
        archive.unpack(io.BytesIO(tar_of(*members, member("data/keys/keyring.json"))), tmp_path)


def test_one_that_lost_its_end_is_refused() -> None:
    content = tar_of(manifest_member(), *PARTS)
    folder = content.index(b"data/c")
    for ends in (folder, folder + 100, folder + 512, folder + 600):
        with pytest.raises(archive.ArchiveError, match="damaged or cut off"):
            check(content[:ends])
    with pytest.raises(archive.ArchiveError, match="damaged or cut off"):
        check(content[:folder] + b"x" + content[folder + 1 :])
    with pytest.raises(archive.ArchiveError, match="something follows after the end"):
        check(content + tar_of(member("data/d")))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("database.dump", "lists no database"), (archive.CONTENTS, "lacks this part: schema")],
)
def test_a_folder_that_lost_a_part_is_not_packed(folder: Path, name: str, complaint: str) -> None:
    (folder / name).unlink()
    if name == archive.CONTENTS:
        (folder / name).touch()
    with pytest.raises(archive.ArchiveError, match=complaint):
        packed(folder)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "damaged or cut off"),
        (b"PGDMP" * 1000, "damaged or cut off"),
        (tar_of((tarfile.TarInfo("manifest"), b"format=1\n")), "has no manifest"),
        (tar_of((tarfile.TarInfo(archive.MANIFEST), b"{")), "has no manifest"),
        (tar_of((tarfile.TarInfo(archive.MANIFEST), b'{"format": 3}')), "this version reads 2: update"),
    ],
)
def test_what_is_not_an_archive_of_this_format_is_named(content: bytes, complaint: str) -> None:
    with pytest.raises(archive.ArchiveError, match=complaint):
        check(content)


def write_all(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


TAKEN = [
    *("secrets/kernal_data_key", "secrets/totp_key", "secrets/backup_identity", "secrets/backup_webhook"),
    f"data/files/{'a' * 64}",
    *("https_certificates/privkey.pem", "https_certificates/self-signed-fullchain.pem"),
    *("data/keys/keyring.json", "data/keys/data-key.json", "data/keys/keyring.replaced-20261127T000000Z.json"),
    *("data/functions/shop.py", "data/functions/tables/prices.csv"),
]
LEFT = [
    *("secrets/owner_url", "secrets/.new", "https_certificates/README.md", "https_certificates/hsts.conf"),
    *("data/postgres/PG_VERSION", "data/backups/kadun-1.tar", "data/.replaced-1/x", "data/files/.adding-1"),
    *("data/keys/moved-to", "data/backup-hooks.d/10-copy", "data/anything", "anything"),
]


def test_a_move_takes_what_is_listed_and_no_program_of_the_host(tmp_path: Path) -> None:
    checkout, folder = tmp_path / "checkout", tmp_path / "staged"
    write_all(checkout, [*TAKEN, *LEFT, ".env"])
    folder.mkdir()
    archive.stage(checkout, folder)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {*TAKEN, "env"}
    assert (checkout / "data/keys/moved-to").exists(), "the links go, not the files"
    assert archive.hooks_in(checkout) == ["data/backup-hooks.d/10-copy"]
    (checkout / "data/functions/link.py").symlink_to("/etc/passwd")
    (tmp_path / "again").mkdir()
    with pytest.raises(archive.ArchiveError, match=r"neither a file nor a folder: .*data/functions/link\.py"):
        archive.stage(checkout, tmp_path / "again")


def test_a_hostile_bundle_places_no_program_and_no_configuration(tmp_path: Path) -> None:
    folder, target = tmp_path / "packed", tmp_path / "unpacked"
    write_all(folder, [*TAKEN, *LEFT, "database.dump", "data/backup-hooks.d/more/20-deep", "data/\x1b[2J"])
    for path in folder.rglob("*"):
        path.chmod(0o755)
    (folder / archive.CONTENTS).write_text(CONTENTS.format(digest="a" * 64))
    target.mkdir()
    manifest = archive.unpack(io.BytesIO(packed(folder)), target)
    files = [path for path in target.rglob("*") if path.is_file()]
    assert {str(path.relative_to(target)) for path in files} == {*TAKEN, "database.dump", archive.MANIFEST}
    assert not any(path.stat().st_mode & 0o111 for path in files)
    assert {path.name for path in (target / "data").iterdir()} == {"files", "functions", "keys"}
    assert r"'data/\x1b[2J'" in manifest["left"], "a terminal would obey it"
    assert {"data/backup-hooks.d/more/20-deep", "https_certificates/hsts.conf"} <= set(manifest["left"].split(", "))


@pytest.mark.parametrize("name", ["secrets/kernal_data_key", "data/keys/keyring.json"])
def test_a_move_without_a_key_is_refused(tmp_path: Path, name: str) -> None:
    checkout, folder = tmp_path / "checkout", tmp_path / "staged"
    for present in ("secrets/kernal_data_key", "data/keys/keyring.json", "https_certificates/README.md", ".env"):
        (checkout / present).parent.mkdir(parents=True, exist_ok=True)
        (checkout / present).touch()
    (checkout / name).unlink()
    folder.mkdir()
    with pytest.raises(archive.ArchiveError, match=rf"nothing can be exported without it: .*{name}"):
        archive.stage(checkout, folder)


def test_differences_are_named_by_table(folder: Path) -> None:
    manifest = check(packed(folder))
    same = archive.parse_contents(CONTENTS.splitlines())
    assert list(archive.differences(manifest, same)) == []
    other = archive.parse_contents(
        ["schema 0008_y", "table client 1 4", "table schema_migration 8 6", "table card 2 18"]
    )
    named = ["schema 0007_x 0008_y", "table card (2, 2)", "table client (missing, 1)", "table schema_migration (7, 8)"]
    assert list(archive.differences(manifest, other)) == named
    trial = manifest | {"trial": "/somewhere"}
    assert "table schema_migration (7, 8)" not in list(archive.differences(trial, other))


def test_the_command_line_checks_and_answers(folder: Path, tmp_path: Path) -> None:
    def run(*arguments: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
        command = (sys.executable, "-B", "-E", "-s", archive.__file__, *arguments)
        return subprocess.run(command, input=given, capture_output=True, check=False, env=os.environ)

    content = run("pack", str(folder), "project=shop=1", given=b"").stdout
    manifest = run("check", given=content).stdout
    member = ("member", str(tmp_path), "database.dump")
    assert run(*member, given=content).stdout == (folder / "database.dump").read_bytes()
    exchanged = run(*member, given=content.replace(b"\0\xff" * 9, b"\0\xfe" * 9))
    assert (exchanged.returncode, exchanged.stdout) == (1, b""), "PostgreSQL sees none of a dump that nobody signed"
    assert list(tmp_path.iterdir()) == [folder]
    assert run("fact", "project", given=manifest).stdout == b"shop=1"
    assert run("fact", "trial", given=manifest).stdout == b""
    assert run("summary", given=manifest).stdout == b"card 2"
    assert run("summary", "card", "client", given=manifest).stdout == b"card 2"
    assert run("missing", str(tmp_path), given=manifest).stdout == b"a file.bin"
    same, other = folder / archive.CONTENTS, tmp_path / "other"
    other.write_text(same.read_text().replace("card 2", "card 3"))
    assert run("compare", str(same), given=manifest).returncode == 0
    differs = run("compare", str(other), given=manifest)
    assert (differs.returncode, differs.stderr) == (1, b"table card (2, 3)\n")
    assert run("check", "--accept-unsigned", given=content).stderr.startswith(archive.__doc__.encode()[:50])
    untrusted = run("check", "--keys", "/nowhere", "--fingerprint", "-key", given=content)
    assert (untrusted.returncode, untrusted.stdout, untrusted.stderr.count(b"\n")) == (archive.UNTRUSTED, b"", 1)
    assert run("check", "--keys", "/nowhere", "--accept-unsigned", given=content).stdout == manifest
    assert run("check", "--verbose", given=content).returncode == 1
    damaged = run("check", given=content[:700])
    assert (damaged.returncode, damaged.stdout, damaged.stderr.count(b"\n")) == (1, b"", 1)
