"""Scripts that exchange the database refuse while other machines serve it. A fake engine answers as the database."""
# Owns run-several-hosts.

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from app.domain.system.hosts import PRESENT_SECONDS, checked_name
from tests.support.hosts.script_libraries import bash, checkout_in

HARMLESS = ("compose version", "info", "compose up --detach database", "ps --all", "inspect")
ENGINE = """#!/bin/bash
printf '%s\\n' "${*//$'\\n'/ }" >>"$CALLS"
case "$*" in
    *to_regclass*) echo t ;;
    *'max(name)'*) echo 0005_release_1_1 ;;
    *'FROM host'*) printf '%s\\n' $OTHERS ;;
    'ps --all --quiet'*) echo 1 ;;
    inspect*) printf '%s running\\n' database app nginx ;;
    *pg_isready*) ;;
esac
"""
STOP = "docker compose stop app nginx"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = checkout_in(tmp_path / "checkout")
    (folder / ".env").write_text(
        "COMPOSE_PROJECT_NAME=kadun\nKADUN_UID=10001\nKADUN_APP_IMAGE=kadun-app\nKADUN_HOST=web-1\n"
    )
    for name in ("secrets", "data/backups", "app/storage/migrations", "../bin"):
        (folder / name).mkdir(parents=True)
    (folder / "secrets/owner_url").write_text("postgresql://kadun_owner:word@10.0.0.5:5432/kadun\n")
    (folder / "app/storage/migrations/0005_release_1_1.sql").touch()
    (tmp_path / "kadun.dump").write_bytes(b"PGDMP")
    for name, text in (("docker", ENGINE), ("ssh", "echo empty\n"), ("rsync", "exit 23\n"), ("age", "exit 1\n")):
        (tmp_path / "bin" / name).write_text(text if text == ENGINE else f"#!/bin/sh\n{text}")
        (tmp_path / "bin" / name).chmod(0o755)
    return folder


def run(checkout: Path, command: str, others: str = "") -> tuple[int, str, list[str]]:
    """Run a script; return its exit status, what it said, and what it asked of the engine beyond looking."""
    calls, path = checkout.parent / "calls", f"{checkout.parent / 'bin'}:{os.environ['PATH']}"
    name, *arguments = command.format(backup=checkout.parent / "kadun.dump").split()
    done = subprocess.run(
        [checkout / "scripts" / name, *arguments],
        env=os.environ | {"PATH": path, "CALLS": str(calls), "OTHERS": others},
        capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    made = [call for call in calls.read_text().splitlines() if not call.startswith(HARMLESS)]
    return done.returncode, done.stderr, [call for call in made if not re.search(r"public\.host|FROM host", call)]


@pytest.mark.parametrize(
    ("command", "advice"),
    [("restore.sh {backup}", STOP), ("upgrade.sh --no-pull", "upgrade.sh --rolling"), ("migrate-to.sh root@new", STOP)],
)
def test_a_script_refuses_while_another_machine_serves(checkout: Path, command: str, advice: str) -> None:
    status, said, asked = run(checkout, command, others="web-2")
    assert (status, advice in said) == (1, True)
    assert "Other machines serve the same database, and nothing was changed: web-2. " in said
    assert [call for call in asked if "pg_isready" not in call] == []
    assert not (checkout / "data/keys/moved-to").exists()
    _, said, _ = run(checkout, command)
    assert "Other machines" not in said  # it fails later, since nothing here is real


def test_a_rolling_upgrade_is_for_several_machines(checkout: Path) -> None:
    _, said, asked = run(checkout, "upgrade.sh --no-pull --rolling", others="web-2")
    assert "Other machines" not in said
    assert any("pg_database_size" in call for call in asked), "it goes on, until nothing here is real"


def test_a_machine_joins_by_a_whole_copy_alone(checkout: Path) -> None:
    with (checkout / ".env").open("a") as env:
        env.write("KADUN_KEYS=database\n")
    _, said, _ = run(checkout, "migrate-to.sh root@192.0.2.1 --join --host web-2", others="0")
    assert "The copy failed; this server keeps serving" in said


def test_scripts_and_service_have_one_rule_for_names_and_presence_and_guess_nothing(checkout: Path) -> None:
    for name in ("a", "web-1.example_com", "x" * 57, "x" * 58, "", "-a", "a.", "a b", "a'b"):
        try:
            is_name = bool(checked_name(name))
        except ValueError:
            is_name = False
        assert (bash(checkout, f"is_host_name {shlex.quote(name)}").returncode == 0) is is_name, name
    assert f"interval '{PRESENT_SECONDS} seconds'" in bash(checkout, 'echo "$PRESENT"').stdout
    for answer in ("return 1", "[[ $2 != *'FROM host'* ]] || return 1; echo t"):
        done = bash(checkout, f"answer() {{ {answer}; }}\nrequire_alone")
        assert done.returncode == 1
