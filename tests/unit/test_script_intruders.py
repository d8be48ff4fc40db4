"""The scripts of root beside a taken-over service, other users of the host, and writers to the backup folder."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.script_libraries import bash, checkout_in, fresh_checkout, functions_of
from tests.support.service import wait_for
from tests.support.tables import for_each

FILE, MARK, VICTIM = '"$ROOT/data/file"', '"$ROOT/data/keys/moved-to"', '"$ROOT/victim"'
EXPORT = """
{functions}
make_dump() {{ :; }}; archive() {{ :; }}; write_archive() {{ echo bundle; }}
output=$ROOT/out.age recipients=() partial='' staged=''
ln -s "$ROOT/victim" "$ROOT/out.age.partial"; check_output
ln -sf "$ROOT/victim" "$ROOT/out.age.partial"; write_bundle
cat "$ROOT/out.age"
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


@for_each(
    "script, name",
    [
        ("deploy-certificate.sh", "certificates"),
        ("init.sh", "setup"),
        ("cluster-init.sh", "cluster"),
        ("provision.sh", "provision"),
    ],
)
def test_no_other_user_can_hold_the_locks_of_the_other_scripts(checkout: Path, script: str, name: str) -> None:
    code = (checkout / "scripts" / script).read_text()
    opens = "\n".join(line for line in code.splitlines() if "open_lock" in line or line.strip().startswith("flock "))
    lock = checkout / f"data/.{name}.lock"
    if script == "provision.sh":
        assert bash(checkout, f"DRY_RUN=yes\n{opens}").returncode == 0
        assert not lock.exists()
    assert bash(checkout, f"open_lock {name}").returncode == 0
    with locked_by_another(checkout):
        held = bash(checkout, f'cd "$ROOT"; FOLDER=$ROOT DRY_RUN=\n{opens}')
    assert held.returncode == 0, held.stderr
    assert lock.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_lock_that_root_makes_and_its_folder_belong_to_the_owner_of_the_checkout(checkout: Path) -> None:
    shutil.rmtree(checkout / "data")
    os.chown(checkout, 12345, 12345)
    assert bash(checkout, "open_lock cluster").returncode == 0
    assert [path.stat().st_uid for path in (checkout / "data", checkout / "data/.cluster.lock")] == [12345, 12345]


@for_each(
    "code, status, printed, said",
    [
        *[
            (f"{there}\necho x | write_new {FILE}", 1, "", "File exists")
            for there in (f"ln -s {VICTIM} {FILE}", f"ln -s /dev/null {FILE}", f"mkfifo {FILE}", f"echo there >{FILE}")
        ],
        (f"echo x | write_new {FILE}; cat {FILE}", 0, "x\n", ""),
        (
            f"""compose() {{ :; }}
            ln -s {VICTIM} "$ROOT/data/keys/moved-to.new"; umask 077
            move_away root@new:/srv/kadun; moved_to | sed 's/.* //'; echo; stat -c '%F %a' {MARK}
            """,
            *(0, "root@new:/srv/kadun\nregular file 644\n", ""),  # the service's user reads it
        ),
        (EXPORT, 0, "bundle\n", ""),
    ],
)
def test_what_a_script_writes_goes_through_no_link_and_over_no_file(
    tmp_path: Path, code: str, status: int, printed: str, said: str
) -> None:
    checkout = fresh_checkout(tmp_path)
    victim = checkout / "victim"
    victim.write_text("precious\n")
    victim.chmod(0o600)
    if code == EXPORT:
        code = code.format(functions=functions_of(checkout, "export.sh", "check_output", "write_bundle"))
    done = bash(checkout, code)
    assert (done.returncode, done.stdout, said in done.stderr) == (status, printed, True), done.stderr
    assert (victim.read_text(), victim.stat().st_mode & 0o777) == ("precious\n", 0o600)


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


@for_each(
    "change, is_given",
    [
        ("", True),
        ("ln() { false; }", True),
        ('ln -sf "$ROOT/secret" "$SHARED/kadun-1.tar"', False),
        ('ln -sf "$ROOT/secret" "$SHARED/kadun-1.tar"; ln() { false; }', False),
        ('rm "$SHARED/kadun-1.tar"; mkfifo "$SHARED/kadun-1.tar"', False),
        ('echo theirs >"$SHARED/kadun-1.tar"', False),
    ],
)
def test_a_hook_carries_away_the_backup_and_no_secret_in_its_place(
    tmp_path: Path, change: str, *, is_given: bool
) -> None:
    checkout = fresh_checkout(tmp_path)
    for folder in ("shared", "data/backup-hooks.d"):
        (checkout / folder).mkdir()
    (checkout / "secret").write_text("AGE-SECRET-KEY-1X\n")
    (checkout / "shared/kadun-1.tar").write_text("rows")
    hook = checkout / "data/backup-hooks.d/50-away"
    exchange = f'ln -sf {checkout}/secret {checkout}/shared/kadun-1.tar; cat "$1" "$1.sha256"; basename "$1"'
    hook.write_text(f"#!/bin/sh\n({exchange}) >{checkout}/away\n")
    hook.chmod(0o755)
    functions = functions_of(checkout, "backup.sh", "run_hooks", "copy_for_hooks", "run_hook")
    done = bash(checkout, HOOKS.format(functions=functions, change=change))
    assert (done.returncode == 0) is is_given, done.stderr
    if is_given:
        digest = hashlib.sha256(b"rows").hexdigest()
        assert (checkout / "away").read_text() == f"rows{digest}  kadun-1.tar\nkadun-1.tar\n"
        assert (checkout / "shared/last-away").read_text().endswith(" kadun-1.tar\n")
    else:
        assert "The backup was changed before it could be copied elsewhere" in done.stderr
        assert not (checkout / "away").exists()


UPGRADE = "age() {{ cat; }}; stop_watch() {{ :; }}; roll_back() {{ {status}; }}\nSTEP=switch DUMP={clear}"
RESTORE = """
age() {{ cat; }}; compose() {{ :; }}; swap_back() {{ {status}; }}
DONE='' RUNNING='' STEP={step} OLD=old NEW=new FAILED=failed JOURNAL='' SAFETY={clear} NEWER=0
"""


@for_each(
    "script, step, status, is_encrypted",
    [
        ("upgrade.sh", "switch", "true", True),
        ("upgrade.sh", "switch", "false", False),
        ("restore.sh", "swapped", "true", True),
        ("restore.sh", "swapped", "false", False),
        ("restore.sh", "", "true", True),
    ],
)
def test_after_a_failure_no_backup_stays_in_clear_unless_the_way_back_needs_it(
    tmp_path: Path, script: str, step: str, status: str, *, is_encrypted: bool
) -> None:
    checkout = fresh_checkout(tmp_path)
    (checkout / ".env").write_text("KADUN_BACKUP_RECIPIENT=age1theirs\n")
    clear = checkout / "data/kadun-before-20261128T000000Z.tar"
    clear.write_text("rows")
    Path(f"{clear}.sha256").touch()
    code, names = (
        (UPGRADE, ["finish"]) if script == "upgrade.sh" else (RESTORE, ["finish", "undo_restore", "settle_backup"])
    )
    functions = functions_of(checkout, script, *names)
    done = bash(checkout, f"{functions}\n{code.format(step=step, status=status, clear=clear)}\nfalse || finish")
    assert done.returncode == 1
    assert (clear.exists(), Path(f"{clear}.age").exists()) == (not is_encrypted, is_encrypted), done.stderr
    if script == "upgrade.sh":
        assert (f"{clear}.age" in done.stderr, "the backup is" in done.stderr) == (is_encrypted, not is_encrypted)
