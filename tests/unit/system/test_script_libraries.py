"""scripts/lib/: locks, starts, upgrades, backups that stay, and .env, with stand-ins for the database and the engine.

The scripts of root run beside a service that may have been taken over, other users of the host, and writers to the
backup folder.
"""

import os
import shutil
import signal
import subprocess
from datetime import date, timedelta
from pathlib import Path

import pytest

from scripts.lib.retention import surplus
from tests.support.hosts.stack import PRELUDE, SOURCES, bash, checkout_in, fresh_checkout, functions_of
from tests.support.services.service import wait_for
from tests.support.tables import for_each

TODAY = date(2026, 11, 25)
DAYS = [TODAY - timedelta(days=back) for back in range(500)]
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


def test_the_lock_ends_with_a_killed_script_whatever_it_has_started_and_is_nobody_elses(checkout: Path) -> None:
    code = "lock_stack\n(unlock_child; exec sleep 60) </dev/null >/dev/null 2>&1 & echo $!; wait"
    command = ("bash", "-c", PRELUDE.format(sources=SOURCES) + code, "script.sh", checkout)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as script:
        assert script.stdout
        child = int(script.stdout.readline())
        assert bash(checkout, "lock_stack").returncode == 1, "it is held"
        script.send_signal(signal.SIGKILL)
    assert bash(checkout, "lock_stack").returncode == 0
    os.kill(child, signal.SIGKILL)
    # No other user can hold it, although one who can read a file or a folder can lock it.
    lock, folder = checkout / "data/.stack.lock", checkout / "scripts"
    with subprocess.Popen(("flock", "--no-fork", "--shared", folder, "sleep", "60")) as other:
        wait_for(lambda: subprocess.run(("flock", "--nonblock", folder, "true"), check=False).returncode)
        held = bash(checkout, "lock_stack")
        other.kill()
    assert (held.returncode, lock.stat().st_mode & 0o777) == (0, 0o600), held.stderr
    lock.unlink()
    lock.mkdir()
    refused = bash(checkout, "lock_stack")
    assert (refused.returncode, f"cannot write {lock}" in refused.stderr) == (1, True)
    if os.geteuid() != 0:
        return  # only root can give files away
    # A lock that root makes, and its folder, belong to the owner of the checkout.
    shutil.rmtree(checkout / "data")
    os.chown(checkout, 12345, 12345)
    assert bash(checkout, "open_lock cluster").returncode == 0
    assert [path.stat().st_uid for path in (checkout / "data", checkout / "data/.cluster.lock")] == [12345, 12345]


def test_a_start_waits_for_the_database_and_for_no_failed_migration(tmp_path: Path) -> None:
    away = 'connection to server at "10.0.0.1", port 5432 failed: '
    failed = (f"{away}FATAL: password authentication failed", "canceling statement due to lock timeout")
    for reason, tries in ((f"{away}session is read-only", 3), *((reason, 1) for reason in failed)):
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


def test_an_upgrade_says_that_it_cannot_go_back_and_which_files_stop_git_pull(checkout: Path) -> None:
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
    git = 'git_here() { [[ $1 != pull ]] || { printf "error: these::\\n\\tDockerfile\\n" >&2; return 1; }; }'
    done = bash(checkout, f"{functions_of(checkout, 'upgrade.sh', 'get_code')}\n{git}\nget_code")
    assert (done.returncode, done.stdout, "\n\tDockerfile\n" in done.stderr) == (1, "", True)
    assert done.stderr.splitlines()[-1].endswith("put the new code here yourself and add --no-pull")


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
        for said in ("moved to root@new:/srv/kadun at 2026-11-25T12:00:00Z", "scripts/migrate-to.sh --resume-here"):
            assert said in done.stderr, command


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


def test_a_setting_is_changed_in_its_place_and_the_file_keeps_its_mode_and_leaves_no_other(checkout: Path) -> None:
    text, file = "# made by init.sh\nA=1\n#B=2\nC=3\nA=4\n", checkout / ".env"
    file.chmod(0o640)
    for before, name, value, after in (
        (text, "A", r"a \\n & b", "# made by init.sh\nA=a \\\\n & b\n#B=2\nC=3\n"),
        (text, "B", "new", "# made by init.sh\nA=1\nB=new\nC=3\nA=4\n"),
        ("A=1\r\nB=2\r\n", "B", "new", "A=1\r\nB=new\n"),
        ("A=1", "C", "new", "A=1\nC=new\n"),
    ):
        file.write_text(before, newline="")
        assert bash(checkout, f"set_setting {name} '{value}'").returncode == 0
        assert file.read_bytes().decode() == after
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(checkout.glob(".env*")) == [file]
    full = bash(checkout, "awk() { return 2; }\nset_setting C 5 && echo changed")  # the disk
    assert (full.stdout, file.read_text()) == ("", "A=1\nC=new\n")


def test_every_form_is_read_as_docker_compose_reads_it(checkout: Path) -> None:
    for expected, lines in (
        ("/disk", ["A=/disk", 'A="/disk"', "A=  /disk", "A = /disk", "export A=/disk", "  A=/disk", "A=/disk\r"]),
        ("/disk", ["A=/other\nA=/disk", 'A="/disk"\r', "A=/disk # it\r", "A=/disk # it", 'A="/disk" # it']),
        ("/a disk # 2", ['A="/a disk # 2"', "A='/a disk # 2'"]),
        *((text, [f"A={text}"]) for text in ("/disk\t# it", "/disk#2", 'a "b" c', "https://a.example/x?y=1&z=2#part")),
        ("", ["A=", 'A=""']),
        ("a b", ["A=a b  "]),
        ("it's", ["A=it's", 'A="it\'s"']),
    ):
        for line in lines:
            (checkout / ".env").write_text(f"# a comment\n{line}\n", newline="")
            assert bash(checkout, "setting A").stdout == expected, line
    for text, expected in (("", "80"), ('A="" # none\n', "80"), ("A=443\n", "443")):
        (checkout / ".env").write_text(text)
        assert bash(checkout, "setting A 80").stdout == expected, "the default stands in for an unset or empty one"
    (checkout / ".env").unlink()
    assert bash(checkout, "setting A 80").stdout == "80"


def backup(day: date, time: str = "031700", suffix: str = "") -> str:
    return f"kadun-{day:%Y%m%d}T{time}Z.tar{suffix}"


def test_a_year_of_nights_leaves_seven_days_five_weeks_and_twelve_months() -> None:
    left = {backup(day) for day in DAYS} - surplus(map(backup, DAYS), 7, 5, 12)
    weeks = {day.isocalendar()[:2]: day for day in reversed(DAYS)}  # the last of each wins
    months = {(day.year, day.month): day for day in reversed(DAYS)}
    expected = {*DAYS[:7], *sorted(weeks.values())[-5:], *sorted(months.values())[-12:]}
    assert left == {backup(day) for day in expected}
    kept: set[str] = set()
    for day in reversed(DAYS[:60]):  # night after night the same are left as at once
        kept.add(backup(day))
        kept -= surplus(kept, 2, 2, 2)
    assert kept == {backup(day) for day in (*DAYS[:3], date(2026, 11, 22), date(2026, 10, 31))}
    # The newest stay whatever the numbers, and time alone removes none.
    old = [backup(date(2019, 5, day)) for day in range(1, 8)]
    assert surplus(old, 7, 0, 0) == set()
    names = [backup(TODAY, f"{hour:02}0000") for hour in range(10)]
    assert surplus(names, 0, 0, 0) == surplus(names, 1, 1, 1) == set(names[:-3])
    mixed = [backup(day, suffix=".age" if day.day % 2 else "") for day in DAYS[:20]]
    assert surplus(mixed, 5, 0, 0) == set(mixed[5:]), "encrypted and plain ones count alike"


def test_backups_go_with_the_checksums_of_version_1_0_and_no_other_file_does(checkout: Path) -> None:
    folder = checkout / "data"
    ours = [f"kadun-2026010{day}T000000Z.tar{'.age' * (1 - day % 2)}" for day in range(1, 7)]
    safety = [name.replace("kadun-", "kadun-before-restore-") for name in ours]
    strangers = ["kadun-20261301T000000Z.tar", *(f"kadun-20200101T000000Z.tar.{end}" for end in ("partial", "gpg"))]
    strangers += ["kadun-before-upgrade-20200101T000000Z.tar", "my-kadun-20200101T000000Z.tar", "kadun-20200101.tar"]
    for name in (*ours, *safety, *strangers, *(f"{name}.sha256" for name in ours)):
        (folder / name).write_text("x")
    code = f"""archives kadun- | library retention.py 0 0 0 | remove_archives "$BACKUP_FOLDER/{ours[0]}"
    keep_newest kadun-before-restore- "$BACKUP_FOLDER/{safety[0]}"
    """  # the clock was set back
    assert not bash(checkout, code).stderr
    kept = [name for names in (ours, safety) for name in (names[0], *names[-3:])]
    left = {*kept, *strangers, *(f"{name}.sha256" for name in ours if name in kept)}
    assert {file.name for file in folder.iterdir() if file.is_file()} == left
