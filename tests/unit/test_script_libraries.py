"""scripts/lib/ in bash itself, with commands in a database's or an engine's place that answer what a test wants."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.script_libraries import PRELUDE, SOURCES, bash, checkout_in, function_of
from tests.support.service import ROOT, wait_for

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


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return checkout_in(tmp_path / "checkout")


def asked(checkout: Path) -> str:
    return (checkout / "asked").read_text()


def test_a_removed_container_is_missing_and_has_no_log(checkout: Path) -> None:
    code = """
    docker() { [[ $1 == ps ]] || { echo "docker was asked about no container" >&2; return 1; }; }
    inspect app '{{.State.Status}}'
    log_of app || echo none
    """
    done = bash(checkout, code)
    assert (done.stdout, done.stderr) == ("missing\nnone\n", "")


@pytest.mark.parametrize("answer", ["return 1", "echo", "echo 'could not connect'"])
def test_a_database_that_cannot_be_asked_is_neither_empty_nor_full(checkout: Path, answer: str) -> None:
    done = bash(checkout, f"answer() {{ {answer}; }}\nif holds_data kadun; then echo full; else echo empty; fi")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Database kadun cannot be read" in done.stderr


@pytest.mark.parametrize("answer", ["return 1", "echo"])
def test_whether_a_database_exists_is_never_guessed(checkout: Path, answer: str) -> None:
    done = bash(checkout, f"answer() {{ {answer}; }}\nif exists kadun; then echo yes; else echo no; fi")
    assert (done.returncode, done.stdout) == (1, "")


def test_a_database_with_cards_that_an_import_has_replaced_is_kept(checkout: Path) -> None:
    done = bash(checkout, f"{FULL}\ndiscard_replaced")
    assert done.returncode == 0, done.stderr
    assert "it is kept as kadun_before_import_" in done.stderr
    assert "RENAME TO kadun_before_import_" in asked(checkout)
    assert "DROP" not in asked(checkout)
    again = bash(checkout, f"{FULL}\ndiscard_replaced yes")  # of this house's own earlier try
    assert again.returncode == 0
    assert 'DROP DATABASE IF EXISTS "kadun_was_empty"' in asked(checkout)


@pytest.mark.parametrize(("arrived", "untouched"), [("7", "yes"), ("6", "no"), ("", "no"), (None, "no")])
def test_an_import_may_be_replaced_while_its_journal_has_not_grown(
    checkout: Path, arrived: str | None, untouched: str
) -> None:
    if arrived is not None:
        (checkout / "data/.arrived").write_text(f"a digest\n{f'journal {arrived}' if arrived else ''}\n")
    assert bash(checkout, f"{FULL}\nif arrived_untouched; then echo yes; else echo no; fi").stdout.strip() == untouched


def test_an_import_with_another_data_key_is_not_replaced(checkout: Path) -> None:
    for folder, key in (("secrets", "ours"), ("data/staged/secrets", "theirs")):
        (checkout / folder).mkdir(parents=True)
        (checkout / folder / "kernal_data_key").write_text(key)
    assert bash(checkout, "same_data_key").returncode == 1
    shutil.copy(checkout / "secrets/kernal_data_key", checkout / "data/staged/secrets/kernal_data_key")
    assert bash(checkout, "same_data_key").returncode == 0


@pytest.mark.parametrize(
    ("source", "database", "taken"),
    [("trial=", "dump", True), ("trial=", "sql", False), ("trial=/state", "sql", True), ("unset trial", "sql", False)],
)
def test_sql_for_psql_is_taken_from_a_trial_and_from_no_bundle(
    checkout: Path, source: str, database: str, *, taken: bool
) -> None:
    for name in ("secrets/kernal_data_key", "data/keys/keyring.json", f"database.{database}"):
        file = checkout / "data/staged" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\\! touch ran\n")
    # A hostile manifest says that it comes from a trial.
    manifest = 'MANIFEST=\'{"schema": "0001", "trial": "/state"}\'\nown_schema() { echo 0002; }'
    done = bash(checkout, f"{source}\n{manifest}\ncheck_bundle && echo taken")
    assert (done.stdout == "taken\n") is taken, done.stderr
    if not taken:
        assert (done.returncode, "The bundle has database.sql" in done.stderr) == (1, True)


def test_what_has_served_is_put_aside_and_its_newer_entries_are_counted(checkout: Path) -> None:
    done = bash(checkout, f'{FULL}\nswap_back old aside 4; echo "$NEWER"; swap_back old aside ""; echo "$NEWER"')
    assert done.stdout.split() == ["7", "?"], done.stderr
    assert 'ALTER DATABASE "kadun" RENAME TO "aside"' in asked(checkout)
    assert 'ALTER DATABASE "old" RENAME TO "kadun"' in asked(checkout)


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


def test_a_service_that_is_ready_at_once_is_so_in_a_trap_too(checkout: Path) -> None:
    code = "compose() { :; }\ntrap 'serve && echo ready' EXIT\nexit 3"
    assert bash(checkout, code).stdout == "ready\n", "a bare return there returns the status from before the trap"


AWAY = 'connection to server at "10.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("reason", "tries"),
    [
        (f"{AWAY}Connection refused", 3),
        (f"{AWAY}session is read-only", 3),
        (f"{AWAY}FATAL: password authentication failed", 1),
        ("canceling statement due to lock timeout", 1),
    ],
)
def test_a_start_waits_for_the_database_and_for_no_failed_migration(checkout: Path, reason: str, tries: int) -> None:
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
    done = bash(checkout, code)
    assert (done.returncode, (checkout / "tries").read_text().count("x")) == (int(tries == 1), tries), done.stderr
    assert (reason in done.stdout) is (tries == 1)


def test_what_a_killed_compose_left_is_settled_before_a_start(checkout: Path) -> None:
    code = """
    docker() {
        echo "$*" >>"$ROOT/tries"
        case $1 in
            ps) printf '%s\n' '11 0123456789ab_kadun-app-1' '22 ba9876543210_kadun-database-1' ;;
            rename) [[ $3 == kadun-app-1 ]] ;;
        esac
    }
    compose() { echo up >>"$ROOT/tries"; }
    set -e
    come_up
    """
    assert bash(checkout, code).returncode == 0
    _, *done = (checkout / "tries").read_text().splitlines()
    assert done == ["rename 11 kadun-app-1", "rename 22 kadun-database-1", "rm --force 22", "up"]


def test_a_rolling_upgrade_is_put_back_while_the_database_is_away(checkout: Path) -> None:
    code = f"""
    {function_of(checkout, "upgrade.sh", "roll_back")}
    answer() {{ return 1; }}
    for name in code_back docker compose start_stack renew_nginx; do eval "$name() {{ :; }}"; done
    ROLLING=yes TIME=T STEP=switch DUMP=x SERVED=yes OLD_COMMIT='' OLD_IMAGE=old APP_IMAGE=new OLD_SCHEMA=0001
    declare -A OPTION=()
    roll_back
    """
    done = bash(checkout, code)
    assert (done.returncode, "the old version is back and serves" in done.stderr) == (0, True), done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("cardctl", "card", "issue", "--validity", "30d", "--count", "1"),
        ("cardctl", "migrate"),
        ("backup.sh",),
        ("verify-backup.sh",),
        ("restore.sh", "/some.dump"),
        ("upgrade.sh",),
        ("export.sh", "--passphrase"),
        ("migrate-to.sh", "root@elsewhere"),
    ],
)
def test_where_the_service_has_moved_away_nothing_is_done_to_what_stayed(
    checkout: Path, command: tuple[str, ...]
) -> None:
    (checkout / "data/keys/moved-to").write_text("2026-11-25T12:00:00Z root@new:/srv/kadun\n")
    script = (checkout / "scripts" / command[0], *command[1:])
    done = subprocess.run(script, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert "The service moved to root@new:/srv/kadun at 2026-11-25T12:00:00Z" in done.stderr
    assert "scripts/migrate-to.sh --resume-here" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_a_restored_database_calls_a_card_is_no_sql(checkout: Path) -> None:
    functions = (ROOT / "scripts/restore.sh").read_text().split("# is_activated")[1].split("# make_new")[0]
    code = f"""
    answer() {{ echo 1; }}
    # is_activated{functions}
    is_activated kadun "$(printf 'A%.0s' {{1..32}})" && echo yes
    is_activated kadun "x'; DROP TABLE card; --" || echo no
    """
    assert bash(checkout, code).stdout == "yes\nno\n"
    assert "DROP" not in asked(checkout)


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
    lines = asked(checkout).splitlines()
    assert lines[0].startswith(f"{live} postgres {own}")
    assert all(line.startswith(tried) for line in lines[1:4]), lines
    assert lines[4].startswith(f"{live} postgres {own}")
    assert lines[5].startswith(f"{live} kadun_restoring_1 pg_restore")


def test_a_bundle_whose_settings_could_be_more_than_values_is_refused_before_anything_is_placed(checkout: Path) -> None:
    staged = checkout / "data/staged"
    staged.mkdir()
    (staged / "env").write_text('KADUN_A="x\nKADUN_B=y" COMPOSE_FILE=data/functions/evil.yml\n')
    done = bash(checkout, "trial=''\ncheck_bundle\necho placed")
    assert (done.returncode, done.stdout) == (1, "")
    assert "The bundle cannot be used: " in done.stderr
    assert "The value of KADUN_A must not contain" in done.stderr


def test_a_mark_of_a_move_that_is_a_link_or_a_pipe_tells_no_secret(checkout: Path) -> None:
    secret, mark = checkout / "secret", checkout / "data/keys/moved-to"
    secret.write_text("AGE-SECRET-KEY-1X\n")
    mark.symlink_to(secret)
    assert bash(checkout, "moved_to").stdout == "?"
    mark.unlink()
    os.mkfifo(mark)
    assert bash(checkout, "moved_to").stdout == "?"
    mark.unlink()
    mark.write_text("2026-11-28T06:00:00Z 新机:/srv/\x1b[2Jkadun\n")
    assert bash(checkout, "moved_to").stdout == "2026-11-28T06:00:00Z 新机:/srv/[2Jkadun"


def test_what_the_database_answers_is_no_arithmetic(checkout: Path) -> None:
    hostile = f"BASH_VERSINFO[$(touch {checkout}/ran; echo 0)]"
    for code in (
        'require_space "$ROOT" "$HOSTILE"',
        'BACKUP_FOLDER=$ROOT/data; in_database() { printf %s "$HOSTILE"; }; retention() { :; }; require_room',
        'in_database() { printf %s "$HOSTILE"; }; kilobytes_needed',
    ):
        functions = "\n".join(
            function_of(checkout, script, name)
            for script, name in (("backup.sh", "require_room"), ("migrate-to.sh", "kilobytes_needed"))
        )
        done = bash(checkout, f"HOSTILE={hostile!r}\n{functions}\n{code}")
        assert done.returncode == 1
        assert "does not answer with a number" in done.stderr
    assert not (checkout / "ran").exists()


def test_a_warning_beside_the_databases_size_is_not_part_of_the_number(checkout: Path) -> None:
    code = f"""
    {function_of(checkout, "backup.sh", "require_room")}
    in_database() {{ echo 'WARNING:  collation version mismatch' >&2; echo 4096; }}
    retention() {{ :; }}
    require_space() {{ echo "$2"; }}
    require_room
    """
    done = bash(checkout, code)
    assert done.stdout.split() == [str(2 * 4096 + 1048576)] * 2, done.stderr


ENGINE = """#!/usr/bin/env bash
case "$*" in
    *print_named_files*) printf '%s\\0' "$NAMED_INPUT" "$NAMED_OUTPUT" ;;
    *ps*) echo running ;;
    *) cat >"$STOLEN"; echo planted ;;
esac
"""


@pytest.mark.parametrize(
    ("named", "is_done"),
    [
        (("secret", "out.age"), False),
        (("core.json", "cron.d"), False),
        (("-", "core.json"), False),
        (("core.json", "out.age"), True),
    ],
)
def test_the_app_names_no_file_that_the_command_line_does_not(
    checkout: Path, tmp_path: Path, named: tuple[str, str], *, is_done: bool
) -> None:
    engine = tmp_path / "bin/docker"
    engine.parent.mkdir()
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    for name in ("secret", "core.json"):
        (tmp_path / name).write_text(name)
    answers = {"NAMED_INPUT": named[0], "NAMED_OUTPUT": named[1], "STOLEN": str(tmp_path / "stolen")}
    done = subprocess.run(
        (checkout / "scripts/cardctl", "seal", "core.json", "--output=out.age"),
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | answers | {"PATH": f"{engine.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert (done.returncode == 0) is is_done, done.stderr
    assert ("names a file that the command line does not" in done.stderr) is not is_done
    assert (tmp_path / "stolen").exists() is is_done
    assert (tmp_path / "core.json").read_text() == "core.json", "what is only to be read is not replaced"
    assert (tmp_path / "out.age").exists() is is_done
    assert not (tmp_path / "cron.d").exists()
