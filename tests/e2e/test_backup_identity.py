"""secrets/backup_identity: who needs one, what init.sh says of it, and how a copy elsewhere is confirmed."""

import hashlib
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import hostfacts
import pytest

from app.tokens.key_folder import KeyFolder
from scripts.lib import env_file
from tests.support.http_exchange import quiet_port

ROOT = Path(__file__).resolve().parents[2]
OWN = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "a checkout"
    (folder / "https_certificates").mkdir(parents=True)
    for name in ("scripts", "postgres"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def script(checkout: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KADUN_")}
    command = [checkout / "scripts" / name, *arguments]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def identity(checkout: Path) -> Path:
    """Run init.sh and return the identity that it made."""
    done = script(checkout, "init.sh", "--http-port", str(quiet_port()), "--https-port", str(quiet_port()))
    assert done.returncode == 0, done.stderr
    said = done.stdout.partition("Copy these to another machine: they are in no backup.\n")[2]
    assert "  secrets/backup_identity " in said
    assert "secrets/kernal_data_key, data/keys/" in said
    return checkout / "secrets/backup_identity"


def set_recipient(checkout: Path, recipient: str) -> None:
    dotenv = checkout / ".env"
    dotenv.write_text(env_file.with_setting(dotenv.read_text(), "KADUN_BACKUP_RECIPIENT", recipient))


def status(checkout: Path) -> str | None:
    """Return what doctor is told."""
    return hostfacts.backup_identity(checkout / "secrets/backup_identity", checkout / "data/backups")


def test_only_the_digest_of_the_copy_confirms_it(checkout: Path, identity: Path) -> None:
    assert status(checkout) == "not copied"
    wrong = script(checkout, "backup.sh", "--copied", "0" * 64)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (1, "", 1)
    assert "The copy differs from secrets/backup_identity here" in wrong.stderr
    assert status(checkout) == "not copied"
    digest = hashlib.sha256(identity.read_bytes()).hexdigest()
    done = script(checkout, "backup.sh", "--copied", digest.upper())
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "The copy is confirmed" in done.stdout
    assert digest not in done.stdout
    assert status(checkout) == "copied"
    identity.unlink()
    assert "cannot read" in script(checkout, "backup.sh", "--copied", digest).stderr
    assert status(checkout) == "missing"
    again = script(checkout, "init.sh")
    assert again.returncode == 0, again.stderr
    assert "  secrets/backup_identity " in again.stdout
    assert status(checkout) == "not copied", "the copy elsewhere is another one's"


@pytest.mark.parametrize(("recipient", "is_made"), [(OWN, False), ("none", False), ("", True)])
def test_an_upgrade_makes_an_identity_unless_the_vendor_chose_otherwise(
    checkout: Path, identity: Path, recipient: str, *, is_made: bool
) -> None:
    identity.unlink()
    (checkout / "data/postgres/PG_VERSION").write_text("17\n")
    set_recipient(checkout, recipient)
    assert script(checkout, "init.sh").returncode == 0
    assert identity.exists() == is_made


def shell(checkout: Path, commands: str) -> subprocess.CompletedProcess[str]:
    """Run commands as the scripts do, with their libraries."""
    head = 'set -euo pipefail; ROOT=$1; source "$ROOT/scripts/lib/archive.sh"; shift; '
    command = ["bash", "-c", head + commands, "kadun", checkout]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)


def test_backups_are_encrypted_to_the_identity_here_unless_the_vendor_chose_otherwise(
    checkout: Path, identity: Path
) -> None:
    ours = subprocess.run(["age-keygen", "-y", identity], capture_output=True, text=True, check=True).stdout.strip()
    both = 'find_recipient; echo "$RECIPIENT"; find_safety_recipient; echo "$RECIPIENT"'
    assert shell(checkout, both).stdout.split("\n")[:2] == [ours, ours]
    identity.write_text("# a new one above the former\n" + identity.read_text() + identity.read_text())
    assert shell(checkout, both).stdout.split("\n")[:2] == [ours, ours]
    set_recipient(checkout, OWN)
    assert shell(checkout, both).stdout.split("\n")[:2] == [OWN, ""], "what must be restored here is not sealed yet"
    set_recipient(checkout, "none")
    assert shell(checkout, both).stdout.split("\n")[:2] == ["", ""]
    set_recipient(checkout, "")
    identity.write_text("no identity\n")
    assert "is not an age identity" in shell(checkout, both).stderr
    identity.unlink()
    refused = shell(checkout, both)
    assert (refused.returncode, refused.stdout) == (1, ""), "never in clear by accident"
    assert "secrets/backup_identity is missing" in refused.stderr


def test_the_identity_here_is_taken_for_what_it_decrypts_and_for_nothing_else(
    checkout: Path, identity: Path, tmp_path: Path
) -> None:
    ours = subprocess.run(["age-keygen", "-y", identity], capture_output=True, text=True, check=True).stdout.strip()
    file, mine = tmp_path / "kadun-1.tar.age", tmp_path / "mine"
    mine.touch()
    choose = f'require_backup "{file}"; echo "$IDENTITY"'
    for recipient, chosen in ((ours, f"{identity}\n"), (OWN, "")):
        command = ["age", "--encrypt", "--recipient", recipient, "--output", file]
        subprocess.run(command, input=bytes(1 << 20), check=True)
        assert shell(checkout, choose).stdout == chosen
        assert shell(checkout, f"IDENTITY={mine}; {choose}").stdout == f"{mine}\n"
    locked = "name it with --identity FILE"
    assert locked in shell(checkout, choose).stderr
    by_checksum = choose.replace(";", " checksum;")
    assert locked in shell(checkout, by_checksum).stderr
    set_recipient(checkout, OWN)
    assert shell(checkout, by_checksum).stdout == "\n"
    assert locked in shell(checkout, choose).stderr, "what is restored must be decrypted"
    identity.write_text("")
    assert "The identity cannot be read: put your copy back" in shell(checkout, choose).stderr


def test_a_damaged_backup_is_not_called_one_of_another_identity(checkout: Path, identity: Path, tmp_path: Path) -> None:
    ours = subprocess.run(["age-keygen", "-y", identity], capture_output=True, text=True, check=True).stdout.strip()
    file, digest = tmp_path / "kadun-1.tar.age", tmp_path / "kadun-1.tar.age.sha256"
    subprocess.run(["age", "--encrypt", "--recipient", ours, "--output", file], input=bytes(1 << 20), check=True)
    whole = file.read_bytes()
    digest.write_text(f"{hashlib.sha256(whole).hexdigest()}  {file.name}\n")

    def refusal(content: bytes) -> str:
        file.write_bytes(content)
        done = shell(checkout, f'require_backup "{file}"')
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        return done.stderr

    in_header, in_first_64_kib = (whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in (90, 1000))
    assert "cannot be read or is empty" in refusal(b"")
    for damaged in (in_header, in_first_64_kib, whole[:-1], b"another file"):
        assert "Its SHA-256 differs" in refusal(damaged)
    digest.unlink()
    for damaged in (in_first_64_kib, b"another file"):
        assert "It is damaged: take another backup: age: error: " in refusal(damaged)
    file.unlink()
    assert "There is no such file" in shell(checkout, f'require_backup "{file}"').stderr


DATABASE = f"""
in_database() {{
    local said=('schema 1' 'table card 1 2' 'sha256 {hashlib.sha256(b"rows").hexdigest()}')
    case "$*" in
        *snapshot*) printf rows && printf 'kadun: %s\\n' "${{said[@]}}" >&2 ;;
        pg_restore*) cat >/dev/null ;;
        *) cat >"$ROOT/restored" ;;
    esac
}}
owner_sql() {{ :; }}
same_contents() {{ :; }}
"""
"""Functions in the place of a database: its dump is `rows`, and what is restored becomes the file `restored`."""


@pytest.mark.parametrize(
    ("recipient", "meanwhile", "in_the_end"), [("", ".age", ".age"), (OWN, "", ".age"), ("none", "", "")]
)
def test_a_safety_archive_can_be_restored_unattended_whoever_backups_are_encrypted_to(
    checkout: Path, identity: Path, recipient: str, meanwhile: str, in_the_end: str
) -> None:
    set_recipient(checkout, recipient)
    if recipient:
        identity.unlink()
    (checkout / "data/backups").mkdir()
    KeyFolder(checkout / "data/keys").create(datetime.now(UTC), "kadun")
    done = shell(
        checkout,
        f"""source "$ROOT/scripts/lib/upgrade-steps.sh"
        {DATABASE}
        find_safety_recipient
        take_archive "$ROOT/data/backups/kadun-before-upgrade-1.tar" "$RECIPIENT"
        echo "$TAKEN"
        mv "$ROOT/data/keys" "$ROOT/data/lost"  # the way back asks for no signature
        LIVE=kadun
        database_back "$TAKEN" aside
        [[ -n $(fact signature) ]]
        encrypt_archive "$TAKEN"
        """,
    )
    file = checkout / "data/backups/kadun-before-upgrade-1.tar"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{file}{meanwhile}\n{file}{in_the_end}"
    assert (checkout / "restored").read_bytes() == b"rows"
    assert sorted(checkout.joinpath("data/backups").iterdir()) == [
        Path(f"{file}{in_the_end}"),
        Path(f"{file}{in_the_end}.sha256"),
    ]
