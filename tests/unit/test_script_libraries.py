"""scripts/lib/ in bash itself, with commands in a database's or an engine's place that answer what a test wants."""

import os
import signal
import subprocess
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
MARK = '"$ROOT/data/keys/moved-to"'


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
         echo AGE-SECRET-KEY-1X >"$ROOT/secret"; ln -s "$ROOT/secret" {MARK}; moved_to
         rm {MARK}; mkfifo {MARK}; moved_to
         rm {MARK}; printf '2026-11-28T06:00:00Z 新机:/srv/\\033[2Jkadun\\n' >{MARK}; moved_to
         """, 0, "??2026-11-28T06:00:00Z 新机:/srv/[2Jkadun", ""),
    ],
)  # fmt: skip
def test_what_the_libraries_do(tmp_path: Path, what: str, code: str, status: int, printed: str, said: str) -> None:
    done = bash(fresh_checkout(tmp_path), code)
    assert (done.returncode, done.stdout, said in done.stderr) == (status, printed, True), (what, done.stderr)
    assert said or not done.stderr or status, done.stderr


@for_each(
    "source, database, taken",
    [("trial=", "dump", True), ("trial=", "sql", False), ("trial=/state", "sql", True), ("unset trial", "sql", False)],
)
def test_sql_for_psql_is_taken_from_a_trial_and_from_no_bundle(
    tmp_path: Path, source: str, database: str, *, taken: bool
) -> None:
    checkout = fresh_checkout(tmp_path)
    for name in ("secrets/kernal_data_key", "data/keys/keyring.json", f"database.{database}"):
        file = checkout / "data/staged" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\\! touch ran\n")
    # A hostile manifest says that it comes from a trial.
    manifest = 'MANIFEST=\'{"schema": "0001", "trial": "/state"}\'\nown_schema() { echo 0002; }'
    done = bash(checkout, f"{source}\n{manifest}\ncheck_bundle && echo taken")
    assert (done.stdout == "taken\n", "The bundle has database.sql" in done.stderr) == (taken, not taken), done.stderr


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


AWAY = 'connection to server at "10.0.0.1", port 5432 failed: '


@for_each(
    "reason, tries",
    [
        (f"{AWAY}session is read-only", 3),
        (f"{AWAY}FATAL: password authentication failed", 1),
        ("canceling statement due to lock timeout", 1),
    ],
)
def test_a_start_waits_for_the_database_and_for_no_failed_migration(tmp_path: Path, reason: str, tries: int) -> None:
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
    assert (done.returncode, (checkout / "tries").read_text().count("x")) == (int(tries == 1), tries), done.stderr
    assert (reason in done.stdout) is (tries == 1)


COMMANDS = (
    *("cardctl card issue --validity 30d --count 1", "cardctl migrate", "backup.sh", "verify-backup.sh"),
    *("restore.sh /some.dump", "upgrade.sh", "export.sh --passphrase", "migrate-to.sh root@elsewhere"),
)


@for_each("command", COMMANDS)
def test_where_the_service_has_moved_away_nothing_is_done_to_what_stayed(checkout: Path, command: str) -> None:
    (checkout / "data/keys/moved-to").write_text("2026-11-25T12:00:00Z root@new:/srv/kadun\n")
    name, *arguments = command.split()
    script = (checkout / "scripts" / name, *arguments)
    done = subprocess.run(script, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "The service moved to root@new:/srv/kadun at 2026-11-25T12:00:00Z" in done.stderr
    assert "scripts/migrate-to.sh --resume-here" in done.stderr


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
    lines = (checkout / "asked").read_text().splitlines()
    assert lines[0].startswith(f"{live} postgres {own}")
    assert all(line.startswith(tried) for line in lines[1:4]), lines
    assert lines[4].startswith(f"{live} postgres {own}")
    assert lines[5].startswith(f"{live} kadun_restoring_1 pg_restore")


def test_what_the_database_answers_is_no_arithmetic_and_no_warning_is_part_of_it(checkout: Path) -> None:
    room = functions_of(checkout, "backup.sh", "require_room")
    functions = f"{room}\n{functions_of(checkout, 'migrate-to.sh', 'kilobytes_needed')}\nretention() {{ :; }}\n"
    hostile = f"HOSTILE='BASH_VERSINFO[$(touch {checkout}/ran; echo 0)]'\n{functions}"
    for code in (
        'require_space "$ROOT" "$HOSTILE"',
        'in_database() { printf %s "$HOSTILE"; }; require_room',
        'in_database() { printf %s "$HOSTILE"; }; kilobytes_needed',
    ):
        done = bash(checkout, hostile + code)
        assert (done.returncode, "does not answer with a number" in done.stderr) == (1, True), done.stderr
    assert not (checkout / "ran").exists()
    size = "in_database() { echo 'WARNING:  collation version mismatch' >&2; echo 4096; }"
    done = bash(checkout, f'{functions}{size}\nrequire_space() {{ echo "$2"; }}\nrequire_room')
    assert done.stdout.split() == [str(2 * 4096 + 1048576)] * 2, done.stderr
