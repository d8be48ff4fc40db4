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
    *to_regclass*) echo t ;;
    *'FROM host'*) printf '%s\\n' $OTHERS ;;
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


def run(checkout: Path, command: str, others: str = "") -> tuple[int, str, list[str]]:
    """Run a script; return its exit status, what it said, and what it asked of the engine beyond looking."""
    calls = checkout.parent / "calls"
    environment = os.environ | {
        "PATH": f"{checkout.parent / 'bin'}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "OTHERS": others,
    }
    backup = checkout.parent / "kadun.dump"
    backup.write_bytes(b"PGDMP")
    words = shlex.split(command.format(backup=backup))
    done = subprocess.run(
        [checkout / "scripts" / words[0], *words[1:]],
        env=environment, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    made = [call for call in calls.read_text().splitlines() if not call.startswith(HARMLESS)]
    return (
        done.returncode,
        done.stderr,
        [call for call in made if "public.host" not in call and "FROM host" not in call],
    )


@pytest.mark.parametrize("script", COMMANDS)
def test_a_script_refuses_while_another_machine_serves_the_database_and_changes_nothing(
    checkout: Path, script: str
) -> None:
    status, said, asked = run(checkout, COMMANDS[script], others="web-2")
    assert status == 1
    assert "Other machines serve the same database, and nothing was changed: web-2. " in said
    assert ("upgrade.sh --rolling" if script == "upgrade.sh" else "docker compose stop app nginx") in said
    assert [call for call in asked if "pg_isready" not in call] == []
    assert not (checkout / "data/keys/moved-to").exists()
    _, said, _ = run(checkout, COMMANDS[script])
    assert "Other machines" not in said  # it fails later, since nothing here is real


def test_a_rolling_upgrade_is_for_several_machines(checkout: Path) -> None:
    _, said, asked = run(checkout, "upgrade.sh --no-pull --rolling", others="web-2")
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
    (checkout / "asked").unlink(missing_ok=True)
    done = bash(checkout, "answer() { :; }\nrequire_alone")
    found = (done.returncode, "KADUN_HOST" in done.stderr, (checkout / "asked").exists())
    assert found == (refusal, refusal, not refusal), done.stderr


def test_a_machine_is_present_as_long_as_the_service_says_and_whether_it_serves_is_never_guessed(
    checkout: Path,
) -> None:
    assert f"interval '{PRESENT_SECONDS} seconds'" in bash(checkout, 'echo "$PRESENT"').stdout
    for answer in ("return 1", "[[ $2 != *'FROM host'* ]] || return 1; echo t"):
        done = bash(checkout, f"answer() {{ {answer}; }}\nrequire_alone")
        assert (done.returncode, "does not answer; nothing was changed" in done.stderr) == (1, True)
