"""Scripts that exchange the database refuse while other machines serve it. A fake engine answers as the database."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from app.domain.hosts import PRESENT_SECONDS, checked_name
from tests.support.script_libraries import bash, checkout_in, functions_of
from tests.support.tables import for_each

HARMLESS = ("compose version", "info", "compose ps", "compose up --detach database", "ps --all")
ENGINE = """#!/bin/bash
printf '%s\\n' "${*//$'\\n'/ }" >>"$CALLS"
case "$*" in
    *pg_stat_activity*) printf '%s\\n' $SESSIONS ;;
    *'FROM host'*) printf '%s\\n' $AWAY ;;
    'compose ps --services'*) printf '%s\\n' database app nginx ;;
    *pg_isready*) ;;
esac
"""
COMMANDS = {
    "restore.sh": "restore.sh --accept-unsigned {backup}",
    "upgrade.sh": "upgrade.sh --no-pull",
    "migrate-to.sh": "migrate-to.sh root@192.0.2.1",
    "export.sh": "export.sh --final --passphrase -o {backup}.age",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = checkout_in(tmp_path / "checkout")
    (folder / ".env").write_text("COMPOSE_PROJECT_NAME=kadun\nKADUN_HOST=web-1\nKADUN_BACKUP_RECIPIENT=none\n")
    (folder / "secrets").mkdir()
    (folder / "secrets/owner_url").write_text("postgresql://kadun_owner:word@10.0.0.5:5432/kadun\n")
    (folder / "data/backups").mkdir()
    (folder / "app/storage/migrations").mkdir(parents=True)
    (folder / "app/storage/migrations/0005_release_1_1.sql").touch()
    for name, text in (("docker", ENGINE), ("ssh", "#!/bin/sh\nexit 1\n"), ("age", "#!/bin/sh\nexit 1\n")):
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    return folder


def run(checkout: Path, command: str, sessions: str = "", away: str = "") -> tuple[int, str, list[str]]:
    """Run a script; return its exit status, what it said, and what it asked of the engine beyond looking."""
    calls = checkout.parent / "calls"
    environment = os.environ | {
        "PATH": f"{checkout.parent / 'bin'}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "SESSIONS": sessions,
        "AWAY": away,
    }
    backup = checkout.parent / "kadun.dump"
    backup.write_bytes(b"PGDMP")
    words = shlex.split(command.format(backup=backup))
    done = subprocess.run(
        [checkout / "scripts" / words[0], *words[1:]],
        env=environment, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    made = [call for call in calls.read_text().splitlines() if not call.startswith(HARMLESS)]
    return done.returncode, done.stderr, [call for call in made if "pg_stat_activity" not in call]


@pytest.mark.parametrize("script", COMMANDS)
def test_a_script_refuses_while_another_machine_serves_the_database_and_changes_nothing(
    checkout: Path, script: str
) -> None:
    status, said, asked = run(checkout, COMMANDS[script], sessions="web-2 web-3", away="web-3")
    assert status == 1
    assert "Other machines serve the same database, and nothing was changed: web-2. " in said
    assert ("upgrade.sh --rolling" if script == "upgrade.sh" else "docker compose stop app nginx") in said
    assert [call for call in asked if "pg_isready" not in call and "FROM host" not in call] == []
    assert not (checkout / "data/keys/moved-to").exists()
    for sessions in ("", "web-3"):  # machines that are dead or absent stop no script
        (checkout.parent / "calls").unlink()
        _, said, asked = run(checkout, COMMANDS[script], sessions=sessions, away="web-3")
        assert any("FROM host" in call for call in asked) is bool(sessions)
        assert "Other machines" not in said  # it fails later, since nothing here is real


def test_a_rolling_upgrade_is_for_several_machines(checkout: Path) -> None:
    _, said, asked = run(checkout, "upgrade.sh --no-pull --rolling", sessions="web-2")
    assert said == "upgrade.sh: 数据库没有响应 the database does not answer\n"
    assert "pg_database_size" in asked[-1], "the question that this engine does not answer"


def test_an_import_refuses_before_it_looks_at_what_the_database_holds(checkout: Path) -> None:
    fakes = """
    STAGED='' NOT_TAKEN='' trial=yes init_options=()
    prepare_checkout() { :; }; start_database() { :; };
    holds_data() { echo looked; return 1; }
    """
    install = f"{functions_of(checkout, 'import.sh', 'install_all')}\n{fakes}\nrequire_alone() {{ CHECK; }}\n"
    discard = "discard_replaced() { echo looked is all; exit; }\ninstall_all"
    alone = bash(checkout, install.replace("CHECK", ":") + discard)
    assert alone.stdout == "looked\nlooked is all\n", alone.stderr
    refused = bash(checkout, install.replace("CHECK", "die alone") + discard)
    assert (refused.returncode, refused.stdout, "alone" in refused.stderr) == (1, "", True)


@for_each("name", ["a", "web-1.example_com", "x" * 57, "x" * 58, "", "-a", "a.", "a b", "a'b"])
def test_the_scripts_and_the_service_have_one_rule_for_names_and_no_other_goes_into_a_query(
    checkout: Path, name: str
) -> None:
    try:
        is_name = bool(checked_name(name))
    except ValueError:
        is_name = False
    assert (bash(checkout, f"is_host_name {shlex.quote(name)}").returncode == 0) is is_name
    (checkout / ".env").write_text(f'KADUN_HOST="{name}"\n')
    refusal = bool(name) and not is_name  # without a name it asks with the default
    jobs = 'source "$ROOT/scripts/lib/jobs.sh"; OPTION[once]=yes\n'
    for call in ("require_alone", f"{jobs}begin_job backup", f"{jobs}note_job backup")[: 3 if refusal else 1]:
        (checkout / "asked").unlink(missing_ok=True)
        done = bash(checkout, f"answer() {{ :; }}\n{call}")
        found = (done.returncode, "KADUN_HOST" in done.stderr, (checkout / "asked").exists())
        assert found == (refusal, refusal, not refusal), (call, done.stderr)


def test_a_machine_is_present_as_long_as_the_service_says_and_whether_it_serves_is_never_guessed(
    checkout: Path,
) -> None:
    assert f"interval '{PRESENT_SECONDS} seconds'" in bash(checkout, 'echo "$PRESENT"').stdout
    for answer in ("return 1", "[[ $2 != *pg_stat_activity* ]] || return 1"):
        done = bash(checkout, f"answer() {{ {answer}; }}\nrequire_alone")
        assert (done.returncode, "does not answer; nothing was changed" in done.stderr) == (1, True)


# A session of the database that holds the lock of a job, or not, until its standard input ends.
SESSION = """
source "$ROOT/scripts/lib/jobs.sh"
in_database() {{ printf '%s\\n' "$*" >>"$ROOT/session"; read -r sql; printf '%s\\n' "$sql" >>"$ROOT/session"
    echo {answer}; cat >/dev/null; echo over >>"$ROOT/session"; }}
answer() {{ case $2 in *'FROM host_job'*) {other} ;; esac; }}
{option}begin_job {job}
echo begun
note_job {job}
"""
OTHER = "echo 'web-2 2026-11-28T03:17:09Z'"
CRON = "OPTION[once]=yes OPTION[quiet]=yes\n"
WARNING = "'WARNING:  collation version mismatch'; echo t"


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


@for_each(
    "job, option, answer, other, status, said",
    [
        ("backup", CRON, "t", ":", 0, ""),
        ("backup", CRON, "f", ":", None, "is at it"),
        ("backup", CRON, "t", OTHER, None, "web-2 2026-11-28T03:17:09Z"),
        ("backup", "", "t", OTHER, 0, ""),  # a backup by hand is always made
        ("backup", "", "f", OTHER, 0, ""),
        ("verify", "", "f", ":", 1, "try again when it is done"),  # it would drop the other's temporary database
        ("backup", "", WARNING, ":", 0, ""),
        ("backup", CRON, "psql: error; exit 2", ":", 1, "The database does not answer: psql: error"),
    ],
)
def test_backups_and_verifications_are_made_one_at_a_time_and_from_cron_once_for_all_machines(
    checkout: Path, job: str, option: str, answer: str, other: str, status: int | None, said: str
) -> None:
    (checkout / ".env").write_text("KADUN_HOST=web-1\n")
    files = [checkout / name for name in ("data/backup.log", "asked", "session")]
    for file in files:
        file.unlink(missing_ok=True)
    (checkout / "data/backups").mkdir(exist_ok=True)
    done = bash(checkout, SESSION.format(answer=answer, other=other, option=option, job=job))
    log, asked, session = map(_text, files)
    assert (done.returncode, done.stdout) == (status or 0, "begun\n" if status == 0 else ""), done.stderr
    assert session.startswith("as-role backup psql ")
    assert "SELECT pg_try_advisory_lock(27489, " in session
    if status == 0:
        assert f"(name, host, done_at) VALUES ('{job}', 'web-1', now())" in asked
        assert ("host <> 'web-1' AND done_at > now() - interval '12 hours'" in asked) is bool(option)
    elif status:
        assert (said in done.stderr, log) == (True, "")
    else:
        assert (f" {job} skipped: " in log, said in log, "INSERT" in asked, done.stderr) == (True, True, False, "")
