"""scripts/lib/travelling.py: what a move takes along, and what is taken from a bundle."""

import io
import os
from itertools import product
from pathlib import Path
from typing import Any

import archive
import pytest

from tests.support.archives import CONTENTS, packed
from tests.support.tables import for_each


def write_all(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


TAKEN = [
    *("secrets/kernal_data_key", "secrets/sealing_key", "secrets/keys_identity"),
    *("secrets/backup_identity", "secrets/backup_webhook"),
    *("secrets/files_bucket_key_id", "secrets/files_bucket_secret", "https_certificates/bucket-ca.pem"),
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
    archive.stage(checkout, folder, "folder")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {*TAKEN, "env"}
    assert (checkout / "data/keys/moved-to").exists(), "the links go, not the files"
    assert archive.hooks_in(checkout) == ["data/backup-hooks.d/10-copy"]
    (checkout / "data/functions/link.py").symlink_to("/etc/passwd")
    (tmp_path / "again").mkdir()
    with pytest.raises(archive.ArchiveError, match=r"neither a file nor a folder: .*data/functions/link\.py"):
        archive.stage(checkout, tmp_path / "again", "folder")


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


def checkout_of(folder: Path) -> Path:
    write_all(folder, ["secrets/kernal_data_key", "data/keys/keyring.json", "data/files/x", ".env", "secret"])
    return folder


@for_each("kind, is_other_disk", product(["link", "pipe"], [False, True]))
def test_a_file_that_the_service_exchanges_meanwhile_takes_no_secret_along(
    tmp_path_factory: pytest.TempPathFactory, kind: str, *, is_other_disk: bool
) -> None:
    tmp_path, link = tmp_path_factory.mktemp("move"), os.link
    checkout, folder = checkout_of(tmp_path / "checkout"), tmp_path / "staged"
    (checkout / "data/files/x").rename(file := checkout / "data/files" / ("a" * 64))
    folder.mkdir()

    def exchange(source: Path, target: Path, **options: Any) -> None:
        if source == file:
            file.unlink()
            if kind == "link":
                file.symlink_to(checkout / "secret")
            else:
                os.mkfifo(file)
        if is_other_disk:
            raise OSError(18, "Invalid cross-device link")
        link(source, target, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", exchange)
        with pytest.raises(archive.ArchiveError, match=rf"neither a file nor a folder: {file}"):
            archive.stage(checkout, folder, "folder")
    assert not (folder / "data/files" / file.name).exists()


def test_files_are_copied_from_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    checkout, folder = checkout_of(tmp_path / "checkout"), tmp_path / "staged"
    (checkout / "secrets/kernal_data_key").chmod(0o600)
    folder.mkdir()
    archive.stage(checkout, folder, "folder")
    key, copy = checkout / "secrets/kernal_data_key", folder / "secrets/kernal_data_key"
    assert copy.read_text() == key.read_text()
    assert [file.stat().st_mode & 0o777 for file in (key, copy)] == [0o600, 0o600]
    assert copy.stat().st_mtime_ns == key.stat().st_mtime_ns


@for_each(
    "name, keys",
    [
        ("secrets/kernal_data_key", "folder"),
        ("data/keys/keyring.json", "folder"),
        ("secrets/keys_identity", "database"),
    ],
)
def test_a_move_without_a_key_is_refused(tmp_path_factory: pytest.TempPathFactory, name: str, keys: str) -> None:
    tmp_path = tmp_path_factory.mktemp("move")
    checkout, folder = tmp_path / "checkout", tmp_path / "staged"
    needed = ("secrets/kernal_data_key", "secrets/keys_identity", "data/keys/keyring.json")
    write_all(checkout, [*needed, "https_certificates/README.md", ".env"])
    (checkout / name).unlink()
    folder.mkdir()
    with pytest.raises(archive.ArchiveError, match=rf"nothing can be exported without it: .*{name}"):
        archive.stage(checkout, folder, keys)
