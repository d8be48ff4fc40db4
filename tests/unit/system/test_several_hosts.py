"""Machines that serve one database: what may not differ, the order of its hosts, and scripts that exchange it.

Scripts refuse while other machines serve it; a move refuses, and gives up. A fake engine answers as the database, and
stand-ins are the new server.
"""
# Owns run-several-hosts.

import os
import re
import shlex
import shutil
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.domain.hosts import PRESENT_SECONDS, checked_name, default_name, differences, faults
from app.storage import models
from app.storage.hosts import ANSWERED, DatabaseHost, Hosts, is_proven
from tests.support.hosts.stack import bash, checkout_in, functions_of
from tests.support.tables import for_each

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
OUTSIDE = """
LIVE=kadun URL_BEFORE=$1
schema_of() { echo 0005; }; own_schema() { cat "$ROOT/schema"; }; stat() { cat "$ROOT/type"; }
require_outside
"""
MOVE = """
STEP='' since='' LIVE=kadun
called() { echo "$*" >>"$ROOT/called"; }
move_away() { called move_away; }; compose() { called compose "$*"; }; require_database() { :; }
inspect() { cat "$ROOT/exit-code"; }; copy() { called copy "$*"; }
evidence() { if (($#)); then cat "$ROOT/there"; else echo rows; fi; }
remote_stack() { called "$3"; }
move SSH /srv/new root@new:/srv/new
"""
STOP = "docker compose stop app nginx"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = checkout_in(tmp_path / "checkout")
    lines = ["COMPOSE_PROJECT_NAME=kadun", "KADUN_UID=10001", "KADUN_APP_IMAGE=kadun-app", "KADUN_HOST=web-1"]
    (folder / ".env").write_text("\n".join([*lines, "KADUN_HTTP_PORT=1", "KADUN_HTTPS_PORT=2", ""]))
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
    calls.unlink()
    return done.returncode, done.stderr, [call for call in made if not re.search(r"public\.host|FROM host", call)]


@for_each(
    "command, advice",
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


def test_a_rolling_upgrade_is_for_several_machines_and_one_joins_by_a_whole_copy_alone(checkout: Path) -> None:
    _, said, asked = run(checkout, "upgrade.sh --no-pull --rolling", others="web-2")
    assert "Other machines" not in said
    assert any("pg_database_size" in call for call in asked), "it goes on, until nothing here is real"
    with (checkout / ".env").open("a") as env:
        env.write("KADUN_KEYS=database\n")
    _, said, _ = run(checkout, "migrate-to.sh root@192.0.2.1 --join --host web-2", others="0")
    assert "The copy failed; this server keeps serving" in said


def test_scripts_and_service_have_one_rule_for_names_and_presence_and_guess_nothing(checkout: Path) -> None:
    for name in ("a", "A_b", "web-1.example_com", "x" * 57):
        assert checked_name(name) == name
        assert bash(checkout, f"is_host_name {shlex.quote(name)}").returncode == 0, name
    for name in ("", "-a", "a.", "a b", "卡盾", "x" * 58, "a\n", "a@b", "a'b"):
        with pytest.raises(ValueError, match="1 to 57 of A-Z"):
            checked_name(name)
        assert bash(checkout, f"is_host_name {shlex.quote(name)}").returncode != 0, name
    names = {"web-1": "web-1", "X-WEB": "X-WEB", "卡盾 1.local": "1.local", "": "unnamed", "..": "unnamed"}
    for machine, name in (names | {f"{'x' * 56}.y": "x" * 56}).items():
        assert checked_name(default_name(machine)) == name, machine
    assert f"interval '{PRESENT_SECONDS} seconds'" in bash(checkout, 'echo "$PRESENT"').stdout
    for answer in ("return 1", "[[ $2 != *'FROM host'* ]] || return 1; echo t"):
        done = bash(checkout, f"answer() {{ {answer}; }}\nrequire_alone")
        assert done.returncode == 1


def look(checkout: Path, commands: dict[str, str]) -> tuple[int, str]:
    """Look at the folder `there`, where these commands answer so; return the status and what was printed."""
    fake, code = checkout.parent / "fake", 'source "$ROOT/scripts/lib/ssh.sh"; prepare_there {} {} "$ROOT/.env" {}'
    fake.mkdir(exist_ok=True)
    ssh = f'shift\nexport PATH={shlex.quote(str(fake))}:$PATH\nexec bash -c "$*"'
    for name, text in (dict.fromkeys(("docker", "rsync", "age"), "exit 0") | commands | {"ssh": ssh}).items():
        (fake / name).write_text(f"#!/bin/bash\n{text}\n")
        (fake / name).chmod(0o755)
    words = (str(fake / "ssh"), str(checkout.parent / "there"), "from old:/srv/kadun")
    done = bash(checkout, code.format(*map(shlex.quote, words)))
    return done.returncode, done.stdout + done.stderr


def test_a_missing_an_empty_and_an_unused_folder_are_taken_and_an_unfinished_copy_is_recognised(checkout: Path) -> None:
    there, mark = checkout.parent / "there", checkout.parent / "there/data/keys/moved-to"
    for found in ([], ["scripts"]):
        for name in found:
            (there / name).mkdir(parents=True)
            (there / name / "migrate-to.sh").touch()
        assert look(checkout, {}) == (0, "empty\n")
        assert mark.read_text().endswith(" from old:/srv/kadun\n"), "nothing starts there"
        assert look(checkout, {}) == (0, "arriving\n")
        shutil.rmtree(there)
    mark.parent.mkdir(parents=True)
    mark.write_text("2026-12-02T10:00:00Z from another:/srv/kadun\n")
    assert "has something else in it, and nothing was changed" in look(checkout, {})[1]
    (there / ".env").touch()
    assert look(checkout, {}) == (0, "served\n")


def test_a_server_that_cannot_take_it_a_folder_with_something_else_and_a_taken_port_are_refused(checkout: Path) -> None:
    for command, answer, complaint in (
        ("docker", "[[ $1 != ps ]] || echo /srv/shop", "Project kadun runs from /srv/shop"),
        ("docker", "[[ $1 != info ]] || { echo away; exit 1; }", "Run scripts/provision.sh there first: away"),
        ("uname", "[[ $1 == -m ]] && echo another || echo new", "Another architecture, another and here "),
    ):
        status, said = look(checkout, {command: answer})
        assert (status, complaint in said, said.count("\n")) == (1, True, 1), said
        assert not (checkout.parent / "there").exists()
    (checkout.parent / "fake/uname").unlink()
    there = checkout.parent / "there"
    for name in ("secrets", "data/postgres", "else"):
        (there / name).mkdir(parents=True)
        assert "has something else in it" in look(checkout, {})[1]
        (there / name).rename(checkout.parent / Path(name).name)
        (there / "data").rmdir() if name.startswith("data") else None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (checkout / ".env").write_text(f"KADUN_HTTP_PORT=1\nKADUN_HTTPS_PORT={port}\n")
        assert f"Port {port} is taken" in look(checkout, {})[1]


def test_a_machine_joins_only_where_both_can_serve(checkout: Path) -> None:
    def refusal(url: str = "postgresql://kadun_owner:word@10.0.0.5:5432/") -> str:
        code = functions_of(checkout, "migrate-to.sh", "require_outside") + OUTSIDE.replace("$1", shlex.quote(url))
        return bash(checkout, code).stderr

    (checkout / ".env").write_text("KADUN_KEYS=database\n")
    (checkout / "data/files").mkdir()
    (checkout / "schema").write_text("0005\n")
    (checkout / "type").write_text("ext2/ext3\n")  # of a second disk, too
    assert refusal() == ""
    assert "The database is in this stack's container" in refusal("postgresql://kadun_owner:word@database:5432/")
    (checkout / "data/files" / ("a" * 64)).touch()
    assert "are on this machine's own disk" in refusal()
    (checkout / "type").write_text("nfs\n")
    assert refusal() == "", "shared"
    (checkout / "schema").write_text("0006\n")
    assert "The code here and the database have different schemas" in refusal()
    (checkout / ".env").write_text("")
    assert "KADUN_KEYS must be database" in refusal()


def test_the_new_server_serves_only_what_was_compared_after_a_clean_stop(checkout: Path) -> None:
    for there, exit_code, complaint, last in (
        ("rows", 0, "", "serve_again"),
        ("other rows", 0, "The database there does not hold what this server's does", "require_database"),
        ("rows", 137, "The database did not shut down cleanly", "compose --progress quiet stop database"),
    ):
        (checkout / "there").write_text(f"{there}\n")
        (checkout / "exit-code").write_text(f"{exit_code}\n")
        done = bash(checkout, functions_of(checkout, "migrate-to.sh", "move", "serve_there") + MOVE)
        assert (done.returncode, complaint in done.stderr) == (int(bool(complaint)), True), done.stderr
        assert (checkout / "called").read_text().splitlines()[-1] == last


SEEN = datetime(2026, 11, 28, 9, tzinfo=UTC)
KID, OTHER_KID = "A" * 43, "B" * 43


def host(name: str, **changes: Any) -> models.Host:
    facts = {"version": "1.10.0", "schema": "0005_release_1_1", "kid": KID, "functions_sha256": "c" * 64}
    return models.Host(name=name, **facts | {"clock_offset_ms": 0, "seen_at": SEEN, "unseen_seconds": 9.0} | changes)


def test_what_differs_is_named() -> None:
    for changes, column, words in (
        ({"kid": OTHER_KID}, "kid", "different signing keys"),
        ({"functions_sha256": "d" * 64}, "functions_sha256", "different core functions"),
        ({"version": "1.9.3"}, "version", "different version"),
        ({"schema": "0020_other"}, "schema", "different schema"),
        ({"clock_offset_ms": 2_000}, None, ""),
        ({"clock_offset_ms": -2_001}, "clock_offset_ms", "different time"),
        ({"unseen_seconds": 61.0}, None, "away: b (if taken away: cardctl hosts --forget NAME)"),
    ):
        hosts = [host("a"), host("b", **changes), host("c")]
        assert differences(hosts) == {column} - {None}, (changes, column)
        assert [text.en for text in faults(hosts)] == ([words] if words else []), (changes, column)
        assert faults(hosts[:1]) == faults([]) == []
    # What a host does not know, and one that is away, are no difference.
    gone = {"unseen_seconds": 3_600.0, "kid": OTHER_KID, "version": "1.0", "clock_offset_ms": 90_000}
    for changes in ({"kid": None}, {"functions_sha256": None}, gone):
        assert differences([host("a"), host("b", **changes)]) == set(), changes


def test_the_databases_hosts_are_those_of_the_url_by_their_answers_and_proven_by_more_than_tls() -> None:
    a, b, c = DatabaseHost("a", 5432), DatabaseHost("b", 5433), DatabaseHost("c", 5434)
    for url, hosts in (
        ("postgresql://u@a:5432,b:5433,c:5434/d", [a, b, c]),
        ("postgresql://u@a,b/d", [a, DatabaseHost("b", 5432)]),
        ("postgresql://u@[::1]:5433/d", [DatabaseHost("::1", 5433)]),
        ("postgresql://u@/d?host=/run/postgresql", [DatabaseHost("/run/postgresql", 5432)]),
        ("postgresql://u@/d?host=a,b&port=5433", [DatabaseHost("a", 5433), b]),
        ("postgresql://u@/d", []),
        ("postgresql://u@a,b/d?hostaddr=10.0.0.1,10.0.0.2", []),
    ):
        assert Hosts(url).all() == hosts, (url, hosts)
    # The one that answered comes first, and the slowest to fail last.
    hosts = Hosts("postgresql://u@a:5432,b:5433,c:5434/d")
    hosts.note(a, 3.0)
    hosts.note(b, 0.1)
    assert hosts.all() == [c, b, a]
    hosts.note(a, ANSWERED)
    assert hosts.all() == [a, c, b]
    hosts = Hosts("postgresql://u@a:5432/d")
    hosts.note(b, 1.0)
    hosts.note(c, ANSWERED)
    assert hosts.all() == [a], "others than those of the URL are not taken up"
    # TLS alone does not show who answers.
    for host in ("127.0.0.1", "::1", "localhost", "database", "/run/postgresql"):
        assert is_proven(host, has_tls=False, parameters={}), host
    for mode, binding, has_tls, expected in (
        ("require", "require", True, True),
        ("verify-full", "prefer", True, True),
        ("verify-ca", "prefer", True, True),
        ("require", "prefer", True, False),
        ("prefer", "require", False, False),
    ):
        parameters = {"sslmode": mode, "channel_binding": binding}
        assert is_proven("10.0.0.5", has_tls=has_tls, parameters=parameters) is expected, (mode, binding)
