"""scripts/lib/ in bash itself, with commands in a database's or an engine's place that answer what a test wants.

The scripts of root run beside a service that may have been taken over, other users of the host, and writers to the
backup folder.
"""

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.script_libraries import PRELUDE, SOURCES, bash, checkout_in, fresh_checkout, functions_of
from tests.support.service import ROOT, wait_for
from tests.support.tables import for_each

# A database named kadun_was_empty with cards in it, which an earlier import left.
FULL = """
answer() {
    case $2 in
        *to_regclass* | *EXISTS*) echo t ;;
        *pg_database*) echo 1 ;;
        *max* | *"id > 4") echo 7 ;;
    esac
}
"""
REPLACED = 'grep -o "RENAME TO [a-z_]*\\|DROP DATABASE.*" "$ROOT/asked"'
ARRIVED = f"{FULL}if arrived_untouched; then echo yes; else echo no; fi"
FILE, MARK, VICTIM = '"$ROOT/data/file"', '"$ROOT/data/keys/moved-to"', '"$ROOT/victim"'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return checkout_in(tmp_path / "checkout")


@for_each(
    "what, code, status, printed, said",
    [
        *[
            ("a database that cannot be asked is neither empty nor full",
             f"answer() {{ {answer}; }}\nif holds_data kadun; then echo full; else echo empty; fi",
             1, "", "Database kadun cannot be read")
            for answer in ("return 1", "echo", "echo 'could not connect'")
        ],
        *[
            ("whether a database exists is never guessed",
             f"answer() {{ {answer}; }}\nif exists kadun; then echo yes; else echo no; fi", 1, "", "")
            for answer in ("return 1", "echo")
        ],
        ("a database with cards that an import has replaced is kept",
         f"{FULL}discard_replaced; {REPLACED}",
         0, "RENAME TO kadun_before_import_\n", "it is kept as kadun_before_import_"),
        ("unless it is of this house's own earlier try",
         f"{FULL}discard_replaced yes; {REPLACED}", 0, 'DROP DATABASE IF EXISTS "kadun_was_empty"\n', ""),
        *[
            ("an import may be replaced while its journal has not grown",
             f"printf 'a digest\\n{journal}\\n' >\"$ROOT/data/.arrived\"\n{ARRIVED}", 0, f"{untouched}\n", "")
            for journal, untouched in (("journal 7", "yes"), ("journal 6", "no"), ("", "no"))
        ],
        ("an import of which nothing is noted is not replaced", ARRIVED, 0, "no\n", ""),
        ("an import with another data key is not replaced",
         """
         mkdir -p "$ROOT/secrets" "$ROOT/data/staged/secrets"
         echo ours >"$ROOT/secrets/kernal_data_key"; echo theirs >"$ROOT/data/staged/secrets/kernal_data_key"
         same_data_key || echo another
         cp "$ROOT/secrets/kernal_data_key" "$ROOT/data/staged/secrets/"; same_data_key
         """, 0, "another\n", ""),
        ("a service that is ready at once is so in a trap too, where a bare return gives the status from before",
         "compose() { :; }\ntrap 'serve && echo ready' EXIT\nexit 3", 3, "ready\n", ""),
        ("a bundle whose settings could be more than values is refused before anything is placed",
         """
         mkdir "$ROOT/data/staged"; trial=''
         printf 'KADUN_A="x\\nKADUN_B=y" COMPOSE_FILE=data/functions/evil.yml\\n' >"$ROOT/data/staged/env"
         check_bundle; echo placed
         """, 1, "", "The bundle cannot be used: "),
        ("a mark of a move that is a link or a pipe tells no secret, and no mark commands a terminal",
         f"""
         ln -s {VICTIM} {MARK}; moved_to
         rm {MARK}; mkfifo {MARK}; moved_to
         rm {MARK}; printf '2026-11-28T06:00:00Z 新机:/srv/\\033[2Jkadun\\n' >{MARK}; moved_to
         """, 0, "??2026-11-28T06:00:00Z 新机:/srv/[2Jkadun", ""),
        *[
            ("what a script writes goes through no link and over no file",
             f"{there}\necho x | write_new {FILE}", 1, "", "File exists")
            for there in (f"ln -s {VICTIM} {FILE}", f"ln -s /dev/null {FILE}", f"mkfifo {FILE}", f"echo there >{FILE}")
        ],
        ("but where there is none", f"echo x | write_new {FILE}; cat {FILE}", 0, "x\n", ""),
        ("nor does the mark of a move, which the service's user reads",
         f"""
         compose() {{ :; }}
         ln -s {VICTIM} "$ROOT/data/keys/moved-to.new"; umask 077
         move_away root@new:/srv/kadun; moved_to | sed 's/.* //'; echo; stat -c '%F %a' {MARK}
         """, 0, "root@new:/srv/kadun\nregular file 644\n", ""),
        ("nor does a bundle",
         """
         EXPORT
         make_dump() { :; }; archive() { :; }; write_archive() { echo bundle; }
         output=$ROOT/out.age recipients=() partial='' staged=''
         ln -s "$ROOT/victim" "$ROOT/out.age.partial"; check_output
         ln -sf "$ROOT/victim" "$ROOT/out.age.partial"; write_bundle
         cat "$ROOT/out.age"
         """, 0, "bundle\n", ""),
    ],
)  # fmt: skip
def test_what_the_libraries_do(tmp_path: Path, what: str, code: str, status: int, printed: str, said: str) -> None:
    checkout = fresh_checkout(tmp_path)
    victim = checkout / "victim"
    victim.write_text("AGE-SECRET-KEY-1X\n")
    victim.chmod(0o600)
    done = bash(checkout, code.replace("EXPORT", functions_of(checkout, "export.sh", "check_output", "write_bundle")))
    assert (done.returncode, done.stdout, said in done.stderr) == (status, printed, True), (what, done.stderr)
    assert said or not done.stderr or status, done.stderr
    assert (victim.read_text(), victim.stat().st_mode & 0o777) == ("AGE-SECRET-KEY-1X\n", 0o600), what


def test_sql_for_psql_is_taken_from_a_trial_and_from_no_bundle(tmp_path: Path) -> None:
    rows = (("trial=", "dump", True), ("trial=/state", "sql", True), ("trial=", "sql", False))
    for source, database, is_taken in (*rows, ("unset trial", "sql", False)):
        checkout = fresh_checkout(tmp_path)
        for name in ("secrets/kernal_data_key", "data/keys/keyring.json", f"database.{database}"):
            file = checkout / "data/staged" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\\! touch ran\n")
        # A hostile manifest says that it comes from a trial.
        manifest = 'MANIFEST=\'{"schema": "0001", "trial": "/state"}\'\nown_schema() { echo 0002; }'
        done = bash(checkout, f"{source}\n{manifest}\ncheck_bundle && echo taken")
        found = (done.stdout == "taken\n", "The bundle has database.sql" in done.stderr)
        assert found == (is_taken, not is_taken), (source, done.stderr)


def test_the_lock_ends_with_a_killed_script_and_so_does_its_stopwatch(checkout: Path, tmp_path: Path) -> None:
    code = "lock_stack\nwatch_gap /dev/null </dev/null >/dev/null 2>&1 & echo $!; wait"
    command = ("bash", "-c", PRELUDE.format(sources=SOURCES) + code, "script.sh", checkout)
    (tmp_path / "curl").write_text('#!/bin/sh\n: >"$0.asked"\nexit 7\n')
    (tmp_path / "curl").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PATH": path}) as script:
        assert script.stdout
        watch = int(script.stdout.readline())
        assert bash(checkout, "lock_stack").returncode == 1, "it is held"
        wait_for((tmp_path / "curl.asked").exists)  # the stopwatch runs, and has let go of the lock
        script.send_signal(signal.SIGKILL)
    assert bash(checkout, "lock_stack").returncode == 0
    wait_for(lambda: not Path(f"/proc/{watch}").exists())


@contextmanager
def locked_by_another(path: Path) -> Iterator[None]:
    """Hold a shared lock of a file or a folder in another process."""
    with subprocess.Popen(("flock", "--no-fork", "--shared", path, "sleep", "60")) as other:
        try:
            wait_for(lambda: subprocess.run(("flock", "--nonblock", path, "true"), check=False).returncode)
            yield
        finally:
            other.kill()


def test_no_other_user_can_hold_a_lock_of_the_scripts(checkout: Path) -> None:
    """Whoever can read a file or a folder can lock it."""
    lock = checkout / "data/.stack.lock"
    with locked_by_another(checkout / "scripts"):
        held = bash(checkout, "lock_stack")
    assert (held.returncode, lock.stat().st_mode & 0o777) == (0, 0o600), held.stderr
    lock.unlink()
    lock.mkdir()
    refused = bash(checkout, "lock_stack")
    assert (refused.returncode, f"cannot write {lock}" in refused.stderr) == (1, True)
    for script, name in (
        ("deploy-certificate.sh", "certificates"),
        ("init.sh", "setup"),
        ("cluster-init.sh", "cluster"),
        ("provision.sh", "provision"),
    ):
        code = (checkout / "scripts" / script).read_text().splitlines()
        opens = "\n".join(line for line in code if "open_lock" in line or line.strip().startswith("flock "))
        lock = checkout / f"data/.{name}.lock"
        if script == "provision.sh":
            assert bash(checkout, f"DRY_RUN=yes\n{opens}").returncode == 0
            assert not lock.exists()
        with locked_by_another(checkout):
            held = bash(checkout, f'open_lock {name}; cd "$ROOT"; FOLDER=$ROOT DRY_RUN=\n{opens}')
        assert (held.returncode, lock.stat().st_mode & 0o777) == (0, 0o600), (script, held.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_lock_that_root_makes_and_its_folder_belong_to_the_owner_of_the_checkout(checkout: Path) -> None:
    shutil.rmtree(checkout / "data")
    os.chown(checkout, 12345, 12345)
    assert bash(checkout, "open_lock cluster").returncode == 0
    assert [path.stat().st_uid for path in (checkout / "data", checkout / "data/.cluster.lock")] == [12345, 12345]


def test_a_start_waits_for_the_database_and_for_no_failed_migration(tmp_path: Path) -> None:
    away = 'connection to server at "10.0.0.1", port 5432 failed: '
    for reason, tries in (
        (f"{away}session is read-only", 3),
        (f"{away}FATAL: password authentication failed", 1),
        ("canceling statement due to lock timeout", 1),
    ):
        code = f"""
        compose() {{
            echo x >>"$ROOT/tries"
            (($(wc -l <"$ROOT/tries") < 3)) || return 0
            echo 'service "migrate" didn'"'"'t complete successfully: exit 1'; return 1
        }}
        log_of() {{ echo 'cardctl: 数据库不可用 / The database is unavailable: {reason}'; }}
        sleep() {{ :; }}
        come_up app
        """
        checkout = fresh_checkout(tmp_path)
        done = bash(checkout, code)
        made = (checkout / "tries").read_text().count("x")
        assert (done.returncode, made, reason in done.stdout) == (int(tries == 1), tries, tries == 1), done.stderr


def test_where_the_service_has_moved_away_nothing_is_done_to_what_stayed(checkout: Path) -> None:
    (checkout / "data/keys/moved-to").write_text("2026-11-25T12:00:00Z root@new:/srv/kadun\n")
    for command in (
        *("cardctl card issue --validity 30d --count 1", "cardctl migrate", "backup.sh", "verify-backup.sh"),
        *("restore.sh /some.dump", "upgrade.sh", "export.sh --passphrase", "migrate-to.sh root@elsewhere"),
    ):
        name, *arguments = command.split()
        script = (checkout / "scripts" / name, *arguments)
        done = subprocess.run(script, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), command
        assert "The service moved to root@new:/srv/kadun at 2026-11-25T12:00:00Z" in done.stderr, command
        assert "scripts/migrate-to.sh --resume-here" in done.stderr, command


def test_what_a_restored_database_calls_a_card_is_no_sql(checkout: Path) -> None:
    functions = (ROOT / "scripts/restore.sh").read_text().split("# is_activated")[1].split("# make_new")[0]
    code = f"""
    answer() {{ echo 1; }}
    # is_activated{functions}
    is_activated kadun "$(printf 'A%.0s' {{1..32}})" && echo yes
    is_activated kadun "x'; DROP TABLE card; --" || echo no
    """
    assert bash(checkout, code).stdout == "yes\nno\n"
    assert "DROP" not in (checkout / "asked").read_text()


def test_a_backup_is_tried_as_the_role_that_can_change_nothing_that_is_live(checkout: Path) -> None:
    code = """
    unset -f owner_sql
    source "$ROOT/scripts/lib/database.sh"
    in_database() { printf '%s\\n' "${*//$'\\n'/ }" | cut -c 1-90 >>"$ROOT/asked"; cat >/dev/null; }
    restore_dump "${VERIFIED}1" printf rows
    contents_of "${VERIFIED}1"
    schema_of "${VERIFIED}1" || true
    restore_dump kadun_restoring_1 printf rows
    """
    done = bash(checkout, code)
    assert done.returncode == 0, done.stderr
    own, tried, live = "psql --no-psqlrc", "as-role backup --database kadun_verify_1", "as-role owner --database"
    begins = [f"{live} postgres {own}", tried, tried, tried, f"{live} postgres {own}"]
    lines = (checkout / "asked").read_text().splitlines()
    for line, begin in zip(lines, [*begins, f"{live} kadun_restoring_1 pg_restore"], strict=False):
        assert line.startswith(begin)


def test_what_the_database_answers_is_no_arithmetic_and_no_warning_is_part_of_it(checkout: Path) -> None:
    room = functions_of(checkout, "backup.sh", "require_room")
    functions = f"{room}\nretention() {{ :; }}\n"
    hostile = f"HOSTILE='BASH_VERSINFO[$(touch {checkout}/ran; echo 0)]'\n{functions}"
    for code in (
        'require_space "$ROOT" "$HOSTILE"',
        'in_database() { printf %s "$HOSTILE"; }; require_room',
    ):
        done = bash(checkout, hostile + code)
        assert (done.returncode, "does not answer with a number" in done.stderr) == (1, True), done.stderr
    assert not (checkout / "ran").exists()
    size = "in_database() { echo 'WARNING:  collation version mismatch' >&2; echo 4096; }"
    done = bash(checkout, f'{functions}{size}\nrequire_space() {{ echo "$2"; }}\nrequire_room')
    assert done.stdout.split() == [str(2 * 4096 + 1048576)] * 2, done.stderr


def test_an_import_takes_no_secret_for_the_signing_keys(checkout: Path) -> None:
    ring, staged = checkout / "data/keys/keyring.json", checkout / "data/staged/data/keys/keyring.json"
    staged.parent.mkdir(parents=True)
    staged.touch()
    (checkout / "secret").write_text("AGE-SECRET-KEY-1X\n")
    ring.symlink_to(checkout / "secret")
    keep = "make_image() { :; }; restore_keys() { :; }; keep_newer_keys"
    refused = bash(checkout, keep)
    assert (refused.returncode, f"cannot read {ring}" in refused.stderr, staged.read_text()) == (1, True, "")
    ring.unlink()
    ring.write_text("{}\n")
    assert (bash(checkout, keep).returncode, staged.read_text()) == (0, "{}\n")


HOOKS = """
{functions}
SHARED=$ROOT/shared BACKUP_FOLDER=$ROOT/shared NAME=kadun-1.tar limit=10 OUTPUT=$ROOT/output COPY='' HOOK=''
TAKEN_SHA256=$(printf rows | sha256sum | cut -d ' ' -f 1)
{change}
run_hooks
"""


def test_a_hook_carries_away_the_backup_and_no_secret_in_its_place(tmp_path: Path) -> None:
    for change, is_given in (
        ("", True),
        ("ln() { false; }", True),
        ('ln -sf "$ROOT/secret" "$SHARED/kadun-1.tar"', False),
        ('ln -sf "$ROOT/secret" "$SHARED/kadun-1.tar"; ln() { false; }', False),
        ('rm "$SHARED/kadun-1.tar"; mkfifo "$SHARED/kadun-1.tar"', False),
        ('echo theirs >"$SHARED/kadun-1.tar"', False),
    ):
        checkout = fresh_checkout(tmp_path)
        for folder in ("shared", "data/backup-hooks.d"):
            (checkout / folder).mkdir()
        (checkout / "secret").write_text("AGE-SECRET-KEY-1X\n")
        (checkout / "shared/kadun-1.tar").write_text("rows")
        hook, away = checkout / "data/backup-hooks.d/50-away", checkout / "away"
        exchange = f'ln -sf {checkout}/secret {checkout}/shared/kadun-1.tar; cat "$1" "$1.sha256"; basename "$1"'
        hook.write_text(f"#!/bin/sh\n({exchange}) >{away}\n")
        hook.chmod(0o755)
        functions = functions_of(checkout, "backup.sh", "run_hooks", "copy_for_hooks", "run_hook")
        done = bash(checkout, HOOKS.format(functions=functions, change=change))
        assert (done.returncode == 0, away.exists()) == (is_given, is_given), (change, done.stderr)
        if is_given:
            assert away.read_text() == f"rows{hashlib.sha256(b'rows').hexdigest()}  kadun-1.tar\nkadun-1.tar\n"
            assert (checkout / "shared/last-away").read_text().endswith(" kadun-1.tar\n")
        else:
            assert "The backup was changed before it could be copied elsewhere" in done.stderr, change


UPGRADE = "age() {{ cat; }}; stop_watch() {{ :; }}; roll_back() {{ {status}; }}\nSTEP=switch DUMP={clear}"
RESTORE = """
age() {{ cat; }}; compose() {{ :; }}; swap_back() {{ {status}; }}
DONE='' RUNNING='' STEP={step} OLD=old NEW=new FAILED=failed JOURNAL='' SAFETY={clear} NEWER=0
"""


def test_after_a_failure_no_backup_stays_in_clear_unless_the_way_back_needs_it(tmp_path: Path) -> None:
    for script, step, status, is_encrypted in (
        ("upgrade.sh", "switch", "true", True),
        ("upgrade.sh", "switch", "false", False),
        ("restore.sh", "swapped", "true", True),
        ("restore.sh", "swapped", "false", False),
        ("restore.sh", "", "true", True),
    ):
        checkout, is_upgrade = fresh_checkout(tmp_path), script == "upgrade.sh"
        (checkout / ".env").write_text("KADUN_BACKUP_RECIPIENT=age1theirs\n")
        clear = checkout / "data/kadun-before-20261128T000000Z.tar"
        clear.write_text("rows")
        Path(f"{clear}.sha256").touch()
        names = ["finish"] if is_upgrade else ["finish", "undo_restore", "settle_backup"]
        code = (UPGRADE if is_upgrade else RESTORE).format(step=step, status=status, clear=clear)
        done = bash(checkout, f"{functions_of(checkout, script, *names)}\n{code}\nfalse || finish")
        found = (done.returncode, clear.exists(), Path(f"{clear}.age").exists())
        assert found == (1, not is_encrypted, is_encrypted), (script, step, status, done.stderr)
        if is_upgrade:
            assert (f"{clear}.age" in done.stderr, "the backup is" in done.stderr) == (is_encrypted, not is_encrypted)


def test_a_balancer_that_is_no_address_stops_the_firewall_before_its_rules_are_written(checkout: Path) -> None:
    (checkout / ".env").write_text("KADUN_PROXY_FROM=10.0.0.8;accept\n")
    libraries = "".join(f'source "$ROOT/scripts/lib/{name}.sh"\n' for name in ("provision", "connections"))
    refused = bash(checkout, f"{libraries}DRY_RUN=yes\nstep_connections")
    assert (refused.returncode, "would write" in refused.stdout) == (1, False)
    assert "'10.0.0.8;accept' 不是地址或网段 is not an address or network" in refused.stderr
