"""Scripts that exchange the database refuse while other machines serve it. A fake engine answers as the database."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from app.domain.hosts import PRESENT_SECONDS, checked_name
from tests.support.script_libraries import bash, checkout_in, function_of
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
    (folder / "app/storage/migrations/0021_hosts.py").touch()
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


@pytest.mark.parametrize("script", COMMANDS)
def test_machines_that_are_dead_or_absent_stop_no_script(checkout: Path, script: str) -> None:
    for sessions in ("", "web-3"):
        (checkout.parent / "calls").unlink(missing_ok=True)
        _, said, asked = run(checkout, COMMANDS[script], sessions=sessions, away="web-3")
        assert any("FROM host" in call for call in asked) is bool(sessions)
        assert "Other machines" not in said  # it fails later, since nothing here is real


def test_a_rolling_upgrade_is_for_several_machines(checkout: Path) -> None:
    _, said, asked = run(checkout, "upgrade.sh --no-pull --rolling", sessions="web-2")
    assert "Other machines" not in said
    assert said == "upgrade.sh: 数据库没有响应 the database does not answer\n"
    assert "pg_database_size" in asked[-1], "the question that this engine does not answer"


def test_an_import_refuses_before_it_looks_at_what_the_database_holds(checkout: Path) -> None:
    fakes = """
    STAGED='' NOT_TAKEN='' trial=yes init_options=()
    prepare_checkout() { :; }; start_database() { :; };
    holds_data() { echo looked; return 1; }
    """
    install = f"{function_of(checkout, 'import.sh', 'install_all')}\n{fakes}\nrequire_alone() {{ CHECK; }}\n"
    discard = "discard_replaced() { echo looked is all; exit; }\ninstall_all"
    alone = bash(checkout, install.replace("CHECK", ":") + discard)
    assert alone.stdout == "looked\nlooked is all\n", alone.stderr
    refused = bash(checkout, install.replace("CHECK", "die alone") + discard)
    assert (refused.returncode, refused.stdout, "alone" in refused.stderr) == (1, "", True)


@for_each("name", ["a", "web-1.example_com", "x" * 57, "x" * 58, "", "-a", "a.", "a b", "a'b"])
def test_the_scripts_and_the_service_have_one_rule_for_names(checkout: Path, name: str) -> None:
    try:
        is_name = bool(checked_name(name))
    except ValueError:
        is_name = False
    assert (bash(checkout, f"is_host_name {shlex.quote(name)}").returncode == 0) is is_name


def test_a_machine_is_present_as_long_as_the_service_says(checkout: Path) -> None:
    assert f"interval '{PRESENT_SECONDS} seconds'" in bash(checkout, 'echo "$PRESENT"').stdout


@pytest.mark.parametrize("answer", ["return 1", "[[ $2 != *pg_stat_activity* ]] || return 1"])
def test_whether_other_machines_serve_is_never_guessed(checkout: Path, answer: str) -> None:
    done = bash(checkout, f"answer() {{ {answer}; }}\nrequire_alone")
    assert (done.returncode, "does not answer; nothing was changed" in done.stderr) == (1, True)


@pytest.mark.parametrize("name", ["a'b", "a b", "-a", "a.", "x" * 58])
def test_a_malformed_name_of_this_machine_goes_into_no_query(checkout: Path, name: str) -> None:
    (checkout / ".env").write_text(f'KADUN_HOST="{name}"\n')
    done = bash(checkout, "answer() { :; }\nrequire_alone")
    assert (done.returncode, "KADUN_HOST" in done.stderr) == (1, True)
    assert not (checkout / "asked").exists()


@pytest.mark.parametrize(
    ("older", "complaint"),
    [
        ("", ""),
        (
            "web-2 0019_jobs",
            "to 0021_hosts first, each with its own upgrade.sh --rolling: web-2 0019_jobs",
        ),
        (None, "the database does not answer"),
    ],
)
def test_a_rolling_upgrade_asks_which_program_each_machine_has(
    checkout: Path, older: str | None, complaint: str
) -> None:
    answer = "return 1" if older is None else f"echo {older}" if older else ":"
    done = bash(
        checkout,
        f"{function_of(checkout, 'upgrade.sh', 'require_tolerant')}\n"
        "in_new_image() { echo 0020_tolerance; }\n"
        f"answer() {{ case $2 in *to_regclass*) echo t ;; *) {answer} ;; esac; }}\n"
        "ROLLING=yes OLD_SCHEMA=0021_hosts NEW_SCHEMA=0022_more\n"
        "require_tolerant",
    )
    assert (done.returncode, complaint in done.stderr) == (1 if complaint else 0, True), done.stderr
    asked = (checkout / "asked").read_text()
    assert "schema COLLATE \"C\" < '0020_tolerance' AND name <> 'web-1'" in asked
