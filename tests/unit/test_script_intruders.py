"""The scripts of root beside a taken-over service, other users of the host, and writers to the backup folder."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.script_libraries import bash, checkout_in, function_of
from tests.support.service import wait_for

CALLED_SCRIPT = """
lock_stack
{change}
bash -c 'ROOT=$2; for module in common stack; do source "$1/$module.sh"; done; lock_stack' - "$ROOT/scripts/lib" "$ROOT"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return checkout_in(tmp_path / "checkout")


@contextmanager
def locked_by_another(path: Path) -> Iterator[None]:
    """Hold a shared lock of a file or a folder in another process."""
    with subprocess.Popen(("flock", "--no-fork", "--shared", path, "sleep", "60")) as other:
        try:
            wait_for(lambda: subprocess.run(("flock", "--nonblock", path, "true"), check=False).returncode)
            yield
        finally:
            other.kill()


def test_no_other_user_can_hold_the_lock_of_the_scripts(checkout: Path) -> None:
    """Whoever can read a file or a folder can lock it."""
    with locked_by_another(checkout / "scripts"):
        held = bash(checkout, "lock_stack")
    assert held.returncode == 0, held.stderr
    lock = checkout / "data/.stack.lock"
    assert lock.stat().st_mode & 0o777 == 0o600
    lock.unlink()
    lock.mkdir()
    refused = bash(checkout, "lock_stack")
    assert (refused.returncode, f"cannot write {lock}" in refused.stderr) == (1, True)


@pytest.mark.parametrize(("change", "status"), [("", 0), ("unset KADUN_LOCK", 1)])
def test_a_script_that_another_one_calls_shares_its_lock(checkout: Path, change: str, status: int) -> None:
    done = bash(checkout, CALLED_SCRIPT.format(change=change))
    assert (done.returncode, "is under way here" in done.stderr) == (status, bool(status)), done.stderr


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("deploy-certificate.sh", "certificates"),
        ("init.sh", "setup"),
        ("cluster-init.sh", "cluster"),
        ("provision.sh", "provision"),
    ],
)
def test_no_other_user_can_hold_the_locks_of_the_other_scripts(checkout: Path, script: str, name: str) -> None:
    assert bash(checkout, f"open_lock {name}").returncode == 0
    code = (checkout / "scripts" / script).read_text()
    opens = "\n".join(line for line in code.splitlines() if "open_lock" in line or line.strip().startswith("flock "))
    with locked_by_another(checkout):
        held = bash(checkout, f'cd "$ROOT"; FOLDER=$ROOT DRY_RUN=\n{opens}')
    assert held.returncode == 0, held.stderr
    assert (checkout / f"data/.{name}.lock").stat().st_mode & 0o777 == 0o600


def test_a_dry_run_of_provision_makes_no_lock(checkout: Path) -> None:
    code = (checkout / "scripts/provision.sh").read_text()
    opens = next(line for line in code.splitlines() if "open_lock" in line)
    assert bash(checkout, f"DRY_RUN=yes\n{opens}").returncode == 0
    assert not (checkout / "data/.provision.lock").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_lock_that_root_makes_and_its_folder_belong_to_the_owner_of_the_checkout(checkout: Path) -> None:
    shutil.rmtree(checkout / "data")
    os.chown(checkout, 12345, 12345)
    assert bash(checkout, "open_lock cluster").returncode == 0
    assert [path.stat().st_uid for path in (checkout / "data", checkout / "data/.cluster.lock")] == [12345, 12345]


@pytest.mark.parametrize("kind", ["link", "device", "pipe", "file"])
def test_a_new_file_is_not_written_over_an_existing_one(checkout: Path, kind: str) -> None:
    victim, file = checkout / "victim", checkout / "data/file"
    victim.write_text("precious\n")
    match kind:
        case "link":
            file.symlink_to(victim)
        case "device":
            file.symlink_to("/dev/null")
        case "pipe":
            os.mkfifo(file)
        case "file":
            file.write_text("there\n")
    done = bash(checkout, 'echo x | write_new "$ROOT/data/file"')
    assert (done.returncode, "File exists" in done.stderr) == (1, True)
    assert victim.read_text() == "precious\n"
    file.unlink()
    assert bash(checkout, 'echo x | write_new "$ROOT/data/file"').returncode == 0
    assert file.read_text() == "x\n"


def test_the_mark_of_a_move_is_written_through_no_link(checkout: Path) -> None:
    victim = checkout / "victim"
    victim.write_text("precious\n")
    victim.chmod(0o600)
    (checkout / "data/keys/moved-to.new").symlink_to(victim)
    done = bash(checkout, "compose() { :; }\numask 077\nmove_away root@new:/srv/kadun; moved_to")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" root@new:/srv/kadun")
    assert (victim.read_text(), victim.stat().st_mode & 0o777) == ("precious\n", 0o600)
    mark = checkout / "data/keys/moved-to"
    assert (mark.is_symlink(), mark.stat().st_mode & 0o777) == (False, 0o644), "the service's user reads it"


def test_an_export_is_written_through_no_link(checkout: Path) -> None:
    (checkout / "victim").write_text("precious\n")
    (checkout / "out.age.partial").symlink_to(checkout / "victim")
    functions = "\n".join(function_of(checkout, "export.sh", name) for name in ("check_output", "write_bundle"))
    code = f"""
    {functions}
    make_dump() {{ :; }}; archive() {{ :; }}; write_archive() {{ echo bundle; }}
    output=$ROOT/out.age recipients=() partial='' staged=''
    check_output
    ln -sf "$ROOT/victim" "$ROOT/out.age.partial"
    write_bundle
    """
    done = bash(checkout, code)
    assert done.returncode == 0, done.stderr
    assert (checkout / "victim").read_text() == "precious\n"
    assert (checkout / "out.age").read_text() == "bundle\n"


def test_an_import_takes_no_secret_for_the_signing_keys(checkout: Path) -> None:
    ring, staged = checkout / "data/keys/keyring.json", checkout / "data/staged/data/keys/keyring.json"
    staged.parent.mkdir(parents=True)
    staged.touch()
    (checkout / "secret").write_text("AGE-SECRET-KEY-1X\n")
    ring.symlink_to(checkout / "secret")
    keep = "make_image() { :; }; restore_keys() { :; }; keep_newer_keys"
    refused = bash(checkout, keep)
    assert (refused.returncode, f"cannot read {ring}" in refused.stderr) == (1, True)
    assert not staged.read_text()
    ring.unlink()
    ring.write_text("{}\n")
    assert bash(checkout, keep).returncode == 0
    assert staged.read_text() == "{}\n"


HOOKS = """
{functions}
SHARED=$ROOT/shared BACKUP_FOLDER=$ROOT/shared NAME=kadun-1.tar limit=10 OUTPUT=$ROOT/output COPY='' HOOK=''
TAKEN_SHA256=$(printf rows | sha256sum | cut -d ' ' -f 1)
{change}
run_hooks
"""


@pytest.mark.parametrize(
    ("change", "is_given"),
    [
        ("", True),
        ("ln() { false; }", True),
        ('ln -sf "$ROOT/secret" "$SHARED/kadun-1.tar"', False),
        ('ln -sf "$ROOT/secret" "$SHARED/kadun-1.tar"; ln() { false; }', False),
        ('rm "$SHARED/kadun-1.tar"; mkfifo "$SHARED/kadun-1.tar"', False),
        ('echo theirs >"$SHARED/kadun-1.tar"', False),
    ],
    ids=["same disk", "other disk", "link", "link to another disk", "pipe", "other content"],
)
def test_a_hook_carries_away_the_backup_and_no_secret_in_its_place(
    checkout: Path, change: str, *, is_given: bool
) -> None:
    for folder in ("shared", "data/backup-hooks.d"):
        (checkout / folder).mkdir()
    (checkout / "secret").write_text("AGE-SECRET-KEY-1X\n")
    (checkout / "shared/kadun-1.tar").write_text("rows")
    hook = checkout / "data/backup-hooks.d/50-away"
    exchange = f'ln -sf {checkout}/secret {checkout}/shared/kadun-1.tar; cat "$1" "$1.sha256"; basename "$1"'
    hook.write_text(f"#!/bin/sh\n({exchange}) >{checkout}/away\n")
    hook.chmod(0o755)
    functions = "\n".join(function_of(checkout, "backup.sh", n) for n in ("run_hooks", "copy_for_hooks", "run_hook"))
    done = bash(checkout, HOOKS.format(functions=functions, change=change))
    assert (done.returncode == 0) is is_given, done.stderr
    if is_given:
        digest = hashlib.sha256(b"rows").hexdigest()
        assert (checkout / "away").read_text() == f"rows{digest}  kadun-1.tar\nkadun-1.tar\n"
        assert (checkout / "shared/last-away").read_text().endswith(" kadun-1.tar\n")
    else:
        assert "The backup was changed before it could be copied elsewhere" in done.stderr
        assert not (checkout / "away").exists()


@pytest.mark.parametrize(
    ("way_back", "is_encrypted"), [("roll_back() { :; }", True), ("roll_back() { false; }", False)]
)
def test_after_a_failed_upgrade_no_backup_stays_in_clear(checkout: Path, way_back: str, *, is_encrypted: bool) -> None:
    (checkout / ".env").write_text("KADUN_BACKUP_RECIPIENT=age1theirs\n")
    clear = checkout / "data/kadun-before-upgrade-1.tar"
    clear.write_text("rows")
    functions = function_of(checkout, "upgrade.sh", "finish")
    code = f"{functions}\nage() {{ cat; }}; stop_watch() {{ :; }}; {way_back}\nSTEP=switch DUMP={clear}"
    done = bash(checkout, f"{code}; false || finish")
    assert done.returncode == 1
    assert (clear.exists(), Path(f"{clear}.age").exists()) == (not is_encrypted, is_encrypted), done.stderr
    assert (f"{clear}.age" in done.stderr) is is_encrypted
    assert ("the backup is" in done.stderr) is not is_encrypted


@pytest.mark.parametrize(("is_put_back", "step"), [(True, "swapped"), (False, "swapped"), (True, "")])
def test_after_a_failed_restore_no_backup_stays_in_clear(checkout: Path, step: str, *, is_put_back: bool) -> None:
    (checkout / ".env").write_text("KADUN_BACKUP_RECIPIENT=age1theirs\n")
    clear = checkout / "data/kadun-before-restore-20261128T000000Z.tar"
    clear.write_text("rows")
    Path(f"{clear}.sha256").touch()
    functions = "\n".join(function_of(checkout, "restore.sh", n) for n in ("finish", "undo_restore", "settle_backup"))
    code = f"""
    {functions}
    age() {{ cat; }}; compose() {{ :; }}; swap_back() {{ {"true" if is_put_back else "false"}; }}
    DONE='' RUNNING='' STEP={step} OLD=old NEW=new FAILED=failed JOURNAL='' SAFETY={clear}
    NEWER=0
    false || finish
    """
    done = bash(checkout, code)
    assert done.returncode == 1
    assert (clear.exists(), Path(f"{clear}.age").exists()) == (not is_put_back, is_put_back), done.stderr
