"""scripts/lib/archive.sh in bash itself: how archives are written and read in folders where others may write."""

import hashlib
import os
from pathlib import Path

import pytest

from tests.support.archives import packed, staged
from tests.support.script_libraries import bash, checkout_in

# A dump, a signature and age without PostgreSQL, the service's keys or age; `watched` shows where the dump waits.
TAKING = """
answer() { :; }
SIGNING=(--keys "$ROOT/data/keys/keyring.json")
find_signer() { SIGNING=(); }
in_database() {
    case "$*" in
        *snapshot*)
            ls -A "$ROOT/shared" >"$ROOT/watched"
            printf rows
            printf 'kadun: %s\\n' 'schema 1' 'table card 1 2' "sha256 $(sha256_of <(printf rows))" >&2 ;;
        *) cat >"$ROOT/restored" ;;
    esac
}
BACKUP_FOLDER=$ROOT/shared TAR=$ROOT/shared/kadun-before-upgrade-1.tar
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    checkout = checkout_in(tmp_path / "checkout")
    (checkout / "shared").mkdir()
    return checkout


def test_who_writes_to_the_backup_folder_neither_sees_a_dump_nor_leads_a_script_to_another_file(
    checkout: Path, tmp_path: Path
) -> None:
    shared, victim = checkout / "shared", tmp_path / "victim"
    victim.write_text("precious\n")
    (shared / ".project").symlink_to(tmp_path / "none")
    for name in (".last-good", "backup.log", "kadun-1.tar.partial", "kadun-1.tar.sha256.partial"):
        (shared / name).symlink_to(victim)
    take = 'take_archive "$ROOT/shared/kadun-1.tar" ""'
    done = bash(checkout, f"{TAKING} note last-good x; log_run y; {take}")
    assert (done.returncode, "could not be written" in done.stderr) == (1, True), "a link is no place to write to"
    for name in ("kadun-1.tar.partial", "kadun-1.tar.sha256.partial"):
        (shared / name).unlink()
    done = bash(checkout, f"{TAKING} claim_folder; {take}; remove_leftovers")
    assert done.returncode == 0, done.stderr
    assert (checkout / "watched").read_text().split() == [".project", "backup.log", "last-good"]
    assert victim.read_text() == "precious\n"
    assert not (tmp_path / "none").exists()
    assert {path.name for path in (checkout / "data").iterdir()} == {"keys"}


def test_no_archive_is_read_through_a_link_that_takes_its_place_meanwhile(checkout: Path) -> None:
    """What decrypts it tells the first line of any other file: of a secret, into the log of the backup folder."""
    (checkout / "secret").write_text("AGE-SECRET-KEY-1\n")
    tools = 'age() { echo "unexpected intro: $(cat "${@: -1}" || cat)" >&2; false; }'
    for name in ("backup.tar.age", "backup.tar"):
        (checkout / "data" / name).symlink_to(checkout / "secret")
        told = bash(checkout, f'{tools}; IDENTITY=x; open_archive "$ROOT/data/{name}"')
        assert (told.returncode, "AGE-SECRET-KEY" in told.stdout + told.stderr) == (1, False), name
        refused = bash(checkout, f'{tools}; require_backup "$ROOT/data/{name}"')
        assert (refused.returncode, "name the file itself" in refused.stderr) == (1, True)
    (checkout / "data/plain.tar").write_bytes(b"x" * 3_000_000)
    assert bash(checkout, 'open_archive "$ROOT/data/plain.tar"').stdout == "x" * 3_000_000


def test_an_earlier_backup_under_a_later_ones_name_is_refused(checkout: Path) -> None:
    content = packed(staged(checkout / "staged"), created="2026-11-25T03:17:02Z")
    for name, is_taken in (
        ("kadun-20261125T031701Z.tar", True),
        ("kadun-before-upgrade-20261126T031700Z.tar", False),
        ("by-hand.tar", True),
    ):
        file = checkout / "data" / name
        file.write_bytes(content)
        Path(f"{file}.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        done = bash(checkout, f'TRUST=(); require_backup "{file}"; read_archive "{file}"; fact created')
        assert (done.stdout == "2026-11-25T03:17:02Z") == is_taken, done.stderr
        assert ("It was made at 2026-11-25T03:17:02Z: an earlier backup" in done.stderr) != is_taken


def test_an_archive_is_kept_if_it_was_written_whole_with_the_checksum_of_what_was_written(checkout: Path) -> None:
    full = 'dd() { if [[ $1 == of=* ]]; then cat >/dev/null && false; else command dd "$@"; fi; }'
    for fault in ("write_archive() { echo half; false; }", full):
        take = bash(checkout, f'{TAKING} {fault}; take_archive "$TAR" ""; remove_leftovers')
        assert (take.returncode, "backup could not be written" in take.stderr) == (1, True), fault
        assert not (checkout / "shared/kadun-before-upgrade-1.tar").exists()
        (checkout / "shared/kadun-before-upgrade-1.tar.partial").unlink(missing_ok=True)
    exchange = 'until rm "$TAKEN.partial" 2>&-; do sleep 0.1; done; printf theirs >"$TAKEN.partial"'
    swap = f"write_archive() {{ printf ours; {exchange}; }}"
    taken = bash(checkout, f'{TAKING}{swap}; take_archive "$TAR" ""; echo "$TAKEN_SHA256"')
    assert taken.stdout.strip() == hashlib.sha256(b"ours").hexdigest(), taken.stderr


def test_a_safety_archive_is_encrypted_into_no_pipe(checkout: Path) -> None:
    (checkout / ".env").write_text("KADUN_BACKUP_RECIPIENT=age1theirs\n")
    clear = checkout / "data/kadun-before-upgrade-1.tar"
    clear.write_bytes(b"clear")
    encrypt = 'age() { tr a-z A-Z; }; encrypt_archive "$ROOT/data/kadun-before-upgrade-1.tar"'
    os.mkfifo(f"{clear}.age.partial")
    kept = bash(checkout, encrypt)
    assert (kept.stdout, "kept in clear" in kept.stderr) == (str(clear), True)
    assert not Path(f"{clear}.age.partial").exists()
    assert bash(checkout, encrypt).stdout == f"{clear}.age"
    assert Path(f"{clear}.age").read_bytes() == b"CLEAR"
    digest = hashlib.sha256(b"CLEAR").hexdigest()
    assert Path(f"{clear}.age.sha256").read_text() == f"{digest}  {clear.name}.age\n"
    assert not clear.exists()


def test_the_way_back_takes_only_the_archive_that_this_run_has_made(checkout: Path) -> None:
    take = 'same_contents() { :; }; swap_back() { echo back; }; take_archive "$TAR" ""'
    way_back = 'database_back "$TAR" aside'
    assert bash(checkout, f"{TAKING}{take}; {way_back}").stdout == "back\n"
    for exchange in ('printf x >>"$TAR"', 'rm "$TAR"; mkfifo "$TAR"'):
        (checkout / "restored").unlink()
        exchanged = bash(checkout, f"{TAKING}{take}; {exchange}; {way_back}")
        assert (exchanged.returncode, exchanged.stdout) == (1, "")
        assert "It has been changed since it was made" in exchanged.stderr
        assert (checkout / "restored").read_text() == "rows", "no more than the reading back of what was taken"
    refused = bash(checkout, f'{TAKING} require_backup "$TAR"')
    assert (refused.returncode, "cannot be read or is empty" in refused.stderr) == (1, True), "a pipe holds up nothing"


def test_a_link_in_the_backup_folder_tells_no_secret_and_takes_no_line(checkout: Path) -> None:
    shared, secret = checkout / "shared", checkout / "secret"
    secret.write_text("age-secret-key\n")
    (shared / ".project").symlink_to(secret)
    (shared / "backup.log").write_text("theirs\n")
    claim = "webhook_url() { :; }; BACKUP_FOLDER=$ROOT/shared; trap 'report_failure backup $?' EXIT; claim_folder"
    done = bash(checkout, claim)
    assert "age-secret-key" not in done.stdout + done.stderr + (shared / "backup.log").read_text()
    assert (secret.read_text(), (shared / ".project").read_text()) == ("age-secret-key\n", "kadun\n")
    (shared / ".project").write_text("x; reboot\n")
    assert bash(checkout, claim).returncode == 1
    assert "Stack xreboot keeps" in (shared / "backup.log").read_text(), "nothing but the letters of a name"


def test_no_backup_folder_but_the_default_is_made(checkout: Path) -> None:
    (checkout / ".env").write_text('KADUN_BACKUP_DIR="./my backups"\n')
    done = bash(checkout, "find_folder")
    assert (done.returncode, "The backup folder does not exist" in done.stderr) == (1, True), done.stderr
    assert {path.name for path in (checkout / "data").iterdir()} == {"keys"}
    (checkout / ".env").write_text("KADUN_BACKUP_DIR='./data/backups'\r\n", newline="")
    found = bash(checkout, 'find_folder; echo "$BACKUP_FOLDER"').stdout.rstrip("/\n")
    assert found == str(checkout / "data/backups")
