"""scripts/migrate-to.sh: what it refuses before the first byte, and when it gives up. Stand-ins are the new server."""

import shlex
import shutil
import socket
from pathlib import Path

import pytest

from tests.support.hosts.script_libraries import bash, checkout_in, functions_of

SSH = """#!/bin/bash
shift
export PATH={fake}:$PATH
exec bash -c "$*"
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


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = checkout_in(tmp_path / "checkout")
    (folder / ".env").write_text("COMPOSE_PROJECT_NAME=kadun\nKADUN_HTTP_PORT=1\nKADUN_HTTPS_PORT=2\n")
    return folder


def look(checkout: Path, commands: dict[str, str]) -> tuple[int, str]:
    """Look at the folder `there`, where these commands answer so; return the status and what was printed."""
    fake, code = checkout.parent / "fake", 'source "$ROOT/scripts/lib/ssh.sh"; prepare_there {} {} "$ROOT/.env" {}'
    fake.mkdir(exist_ok=True)
    answers = dict.fromkeys(("docker", "rsync", "age"), "exit 0") | commands
    for name, text in ({name: f"#!/bin/bash\n{text}\n" for name, text in answers.items()} | {
        "ssh": SSH.format(fake=shlex.quote(str(fake)))
    }).items():  # fmt: skip
        (fake / name).write_text(text)
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


@pytest.mark.parametrize(
    ("commands", "complaint"),
    [
        ({"uname": "[[ $1 == -m ]] && echo another || echo new"}, "Another architecture, another and here "),
        ({"docker": "[[ $1 != ps ]] || echo /srv/shop"}, "Project kadun runs from /srv/shop"),
        (
            {"docker": "[[ $1 != info ]] || { echo no daemon; exit 1; }"},
            "Run scripts/provision.sh there first: no daemon",
        ),
    ],
)
def test_a_server_that_cannot_take_it_is_refused(checkout: Path, commands: dict[str, str], complaint: str) -> None:
    status, said = look(checkout, commands)
    assert (status, complaint in said, said.count("\n")) == (1, True, 1), said
    assert not (checkout.parent / "there").exists()


def test_a_folder_with_something_else_and_a_taken_port_are_refused(checkout: Path) -> None:
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


@pytest.mark.parametrize(
    ("there", "exit_code", "complaint", "last"),
    [
        ("rows\n", "0\n", "", "serve_again"),
        ("other rows\n", "0\n", "The database there does not hold what this server's does", "require_database"),
        ("rows\n", "137\n", "The database did not shut down cleanly", "compose --progress quiet stop database"),
    ],
)
def test_the_new_server_serves_only_what_was_compared_after_a_clean_stop(
    checkout: Path, there: str, exit_code: str, complaint: str, last: str
) -> None:
    (checkout / "there").write_text(there)
    (checkout / "exit-code").write_text(exit_code)
    done = bash(checkout, functions_of(checkout, "migrate-to.sh", "move", "serve_there") + MOVE)
    assert (done.returncode, complaint in done.stderr) == (int(bool(complaint)), True), done.stderr
    assert (checkout / "called").read_text().splitlines()[-1] == last
