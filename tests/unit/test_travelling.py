"""scripts/lib/travelling.py: what a move takes along, and what is taken from a bundle."""

import io
import os
from pathlib import Path
from typing import Any

import archive
import pytest

from tests.support.archives import packed, staged

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


def write_all(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    write_all(tmp_path / "checkout", [*TAKEN, *LEFT, ".env"])
    return tmp_path / "checkout"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "staged").mkdir()
    return tmp_path / "staged"


def test_a_move_takes_what_is_listed_and_no_program_of_the_host(checkout: Path, folder: Path) -> None:
    archive.stage(checkout, folder, "folder")
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {*TAKEN, "env"}
    assert (checkout / "data/keys/moved-to").exists(), "the links go, not the files"
    assert archive.hooks_in(checkout) == ["data/backup-hooks.d/10-copy"]


def test_a_hostile_bundle_places_no_program_and_no_configuration(tmp_path: Path) -> None:
    folder, target = staged(tmp_path / "packed"), tmp_path / "unpacked"
    write_all(folder, [*TAKEN, *LEFT, "data/backup-hooks.d/more/20-deep", "data/\x1b[2J"])
    for path in folder.rglob("*"):
        path.chmod(0o755)
    target.mkdir()
    manifest = archive.unpack(io.BytesIO(packed(folder)), target)
    files = [path for path in target.rglob("*") if path.is_file()]
    assert {str(path.relative_to(target)) for path in files} == {*TAKEN, "database.dump", archive.MANIFEST}
    assert not any(path.stat().st_mode & 0o111 for path in files)
    assert {path.name for path in (target / "data").iterdir()} == {"files", "functions", "keys"}
    assert r"'data/\x1b[2J'" in manifest["left"], "a terminal would obey it"
    assert {"data/backup-hooks.d/more/20-deep", "https_certificates/hsts.conf"} <= set(manifest["left"].split(", "))

    (folder / "database.dump").unlink()
    (folder / archive.CONTENTS).unlink()
    (tmp_path / "joined").mkdir()
    bundle = io.BytesIO(packed(folder, kind="join", schema="0007_x"))
    left = set(archive.unpack(bundle, tmp_path / "joined", joining=True)["left"].split(", "))
    hostile = {"data/keys/keyring.json", "data/backup-hooks.d/10-copy", "https_certificates/hsts.conf"}
    assert hostile <= left, "a machine that joins takes no signing keys either"


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("is_other_disk", [False, True])
def test_a_file_that_the_service_exchanges_meanwhile_takes_no_secret_along(
    checkout: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, is_other_disk: bool
) -> None:
    link, file = os.link, checkout / "data/files" / ("a" * 64)
    key = checkout / "secrets/kernal_data_key"
    key.chmod(0o600)

    def exchange(source: Path, target: Path, **options: Any) -> None:
        if source == file:
            file.unlink()
            if kind == "link":
                file.symlink_to(checkout / "secrets/owner_url")
            else:
                os.mkfifo(file)
        if is_other_disk:
            raise OSError(18, "Invalid cross-device link")
        link(source, target, **options)

    monkeypatch.setattr(os, "link", exchange)
    with pytest.raises(archive.ArchiveError, match=rf"neither a file nor a folder: {file}"):
        archive.stage(checkout, folder, "folder")
    assert not (folder / "data/files" / file.name).exists()
    copied = folder / "secrets/kernal_data_key"
    assert copied.read_text() == key.read_text(), "files come from another disk, too"
    assert (copied.stat().st_mode & 0o777, copied.stat().st_mtime_ns) == (0o600, key.stat().st_mtime_ns)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("secrets/kernal_data_key", "folder"),
        ("data/keys/keyring.json", "folder"),
        ("secrets/keys_identity", "database"),
    ],
)
def test_a_move_without_a_key_is_refused(checkout: Path, folder: Path, name: str, keys: str) -> None:
    (checkout / name).unlink()
    with pytest.raises(archive.ArchiveError, match=rf"nothing can be exported without it: .*{name}"):
        archive.stage(checkout, folder, keys)
