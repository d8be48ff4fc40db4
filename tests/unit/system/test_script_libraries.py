"""scripts/lib/ in bash itself, with commands in a database's or an engine's place that answer what a test wants.

The scripts of root run beside a service that may have been taken over, other users of the host, and writers to the
backup folder.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.hosts.script_libraries import PRELUDE, SOURCES, bash, checkout_in, fresh_checkout, functions_of
from tests.support.services.service import wait_for
from tests.support.tables import for_each

MARK, VICTIM = '"$ROOT/data/keys/moved-to"', '"$ROOT/victim"'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return checkout_in(tmp_path / "checkout")


@for_each(
    "what, code, status, printed, said",
    [
        ("a service that is ready at once is so in a trap too, where a bare return gives the status from before",
         "compose() { :; }\ntrap 'serve && echo ready' EXIT\nexit 3", 3, "ready\n", ""),
        ("a mark of a move that is a link or a pipe tells no secret, and no mark commands a terminal",
         f"""
         ln -s {VICTIM} {MARK}; moved_to
         rm {MARK}; mkfifo {MARK}; moved_to
         rm {MARK}; printf '2026-11-28T06:00:00Z 新机:/srv/\\033[2Jkadun\\n' >{MARK}; moved_to
         """, 0, "??2026-11-28T06:00:00Z 新机:/srv/[2Jkadun", ""),
        ("the mark of a move goes through no link; it is a file that the service's user reads",
         f"""
         compose() {{ :; }}
         ln -s {VICTIM} {MARK}; umask 077
         move_away root@new:/srv/kadun; moved_to | sed 's/.* //'; echo; stat -c '%F %a' {MARK}
         """, 0, "root@new:/srv/kadun\nregular file 644\n", ""),
        ("only where no identity is there a new one is advised", "OWN_IDENTITY=$ROOT/.env; recipients", 1, "",
         "is not an age identity: put your copy back\n"),
        ("a name for a bundle is for no other backup", '"$ROOT/scripts/backup.sh" -o x', 2, "", "-o is for --bundle"),
    ],
)  # fmt: skip
def test_what_the_libraries_do(tmp_path: Path, what: str, code: str, status: int, printed: str, said: str) -> None:
    checkout = fresh_checkout(tmp_path)
    victim = checkout / "victim"
    victim.write_text("AGE-SECRET-KEY-1X\n")
    victim.chmod(0o600)
    done = bash(checkout, code)
    assert (done.returncode, done.stdout, said in done.stderr) == (status, printed, True), (what, done.stderr)
    assert said or not done.stderr or status, done.stderr
    assert (victim.read_text(), victim.stat().st_mode & 0o777) == ("AGE-SECRET-KEY-1X\n", 0o600), what


def test_the_lock_ends_with_a_killed_script_whatever_it_has_started(checkout: Path) -> None:
    code = "lock_stack\n(unlock_child; exec sleep 60) </dev/null >/dev/null 2>&1 & echo $!; wait"
    command = ("bash", "-c", PRELUDE.format(sources=SOURCES) + code, "script.sh", checkout)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as script:
        assert script.stdout
        child = int(script.stdout.readline())
        assert bash(checkout, "lock_stack").returncode == 1, "it is held"
        script.send_signal(signal.SIGKILL)
    assert bash(checkout, "lock_stack").returncode == 0
    os.kill(child, signal.SIGKILL)


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


def test_an_upgrade_names_the_files_that_stop_git_pull(checkout: Path) -> None:
    git = 'git_here() { [[ $1 != pull ]] || { printf "error: these::\\n\\tDockerfile\\n" >&2; return 1; }; }'
    done = bash(checkout, f"{functions_of(checkout, 'upgrade.sh', 'get_code')}\n{git}\nget_code")
    assert (done.returncode, done.stdout, "\n\tDockerfile\n" in done.stderr) == (1, "", True)
    assert done.stderr.splitlines()[-1].endswith("put the new code here yourself and add --no-pull")


def test_an_upgrade_that_cannot_go_back_says_so_and_names_no_backup_that_is_not_there(checkout: Path) -> None:
    code = """
    STEP=switch OLD_ENV=$ROOT/.env NEEDS_COPY='' OLD_IMAGE=old APP_IMAGE=app OLD_COMMIT=1 BACKUP=$ROOT/none
    compose() { :; }; start_stack() { :; }; docker() { return "$DOCKER"; }
    git_here() { if [[ $1 == reset ]]; then return "$GIT"; else echo 2; fi; }
    trap finish EXIT; exit 1
    """
    for fails, said in (("GIT=0 DOCKER=0", "is back and serves"), ("GIT=1 DOCKER=0", ""), ("GIT=0 DOCKER=1", "")):
        done = bash(checkout, f"{fails}\n{functions_of(checkout, 'upgrade.sh', 'finish', 'roll_back')}{code}")
        assert (said or "the service may be down: go back by hand") in done.stderr, fails
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr


def test_where_the_service_has_moved_away_nothing_is_done_to_what_stayed(checkout: Path) -> None:
    (checkout / "data/keys/moved-to").write_text("2026-11-25T12:00:00Z root@new:/srv/kadun\n")
    for command in (
        *("cardctl card issue --validity 30d --count 1", "cardctl migrate", "backup.sh", "backup.sh --verify"),
        *("restore.sh /some.tar", "upgrade.sh", "migrate-to.sh root@elsewhere"),
    ):
        name, *arguments = command.split()
        script = (checkout / "scripts" / name, *arguments)
        done = subprocess.run(script, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), command
        assert "The service moved to root@new:/srv/kadun at 2026-11-25T12:00:00Z" in done.stderr, command
        assert "scripts/migrate-to.sh --resume-here" in done.stderr, command


def test_a_backup_is_tried_as_the_role_that_can_change_nothing_that_is_live(checkout: Path) -> None:
    (checkout / "data/staged").mkdir()
    (checkout / "data/staged/contents").write_text("schema 0004_x\nbytes 1\n")
    (checkout / "data/staged/database.dump").touch()
    code = """
    unset -f owner_sql
    source "$ROOT/scripts/lib/database.sh"
    in_database() { printf '%s\n' "${*//$'\n'/ }" | cut -c 1-90 >>"$ROOT/asked"; cat >/dev/null; }
    compared() { :; }
    load_database "${VERIFIED}1" "$STAGED"
    load_database kadun_restoring "$STAGED"
    """
    done = bash(checkout, code)
    assert done.returncode == 0, done.stderr
    own, tried, live = "psql --no-psqlrc", "as-role backup --database kadun_verify_1", "as-role owner --database"
    begins = [f"{live} postgres {own}", tried, tried]
    begins += [begin.replace(tried, f"{live} kadun_restoring") for begin in begins]
    for line, begin in zip((checkout / "asked").read_text().splitlines(), begins, strict=True):
        assert line.startswith(begin)


def test_what_the_database_answers_is_no_arithmetic_and_no_warning_is_part_of_it(checkout: Path) -> None:
    hostile = f"HOSTILE='BASH_VERSINFO[$(touch {checkout}/ran; echo 0)]'\n"
    done = bash(checkout, f'{hostile}owner_sql() {{ printf %s "$HOSTILE"; }}; take_archive "$ROOT/data/x" ""')
    assert (done.returncode, "not a number" in done.stderr) == (1, True), done.stderr
    assert not (checkout / "ran").exists()
    size = "owner_sql() { echo 'WARNING:  collation version mismatch' >&2; echo 4096; }"
    stop = 'require_space() { echo "$2"; }\nrecipients() { exit; }\n'
    done = bash(checkout, f'{size}\n{stop}take_archive "$ROOT/data/x" ""')
    assert done.stdout.split() == ["4096"], done.stderr
