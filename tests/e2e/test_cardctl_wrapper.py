"""scripts/cardctl where the service runs in containers, with a `docker` that only writes down its calls.

Where it runs a command, it does so in another folder: a wall such as the container's. It takes all of its
input at once, as the real one does.
"""
# Owns cardctl-wrapper.

import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import click
import pyrage
import pytest

from app.cli.commands.card import card
from app.cli.commands.file import file
from app.cli.commands.function import function
from app.cli.commands.key import seal
from app.cli.commands.program import program
from tests.support.services.service import ROOT

DOCKER = """\
#!/bin/bash
if [[ $1 == inspect ]]; then sed 's/$/ running/' "{folder}/running"; exit; fi
printf '%s\\n' "$PWD: $*" >>"{folder}/calls"
while [[ $1 != exec && $1 != ps && $1 != run ]]; do shift; done
[[ $1 != run ]] || exit 0
if [[ $1 == ps ]]; then cat "{folder}/running"; exit; fi
printf '%s\\0' "${{@:2}}" >"{folder}/arguments"
input=/dev/null
if [[ $2 == -T ]]; then input="{folder}/input"; cat >"$input"; fi
[[ ! -e "{folder}/idle" ]] || exit 0
while [[ $1 != python ]]; do shift; done
shift
cd / && exec env -i PYTHONPATH="{root}" DATABASE_URL=postgresql://nowhere \\
    KADUN_KEYS_DIR=/nonexistent KADUN_FILES_DIR=/nonexistent KADUN_FUNCTIONS_SOCKET=/nonexistent \\
    KERNAL_DATA_KEY="$(<"{folder}/key")" {python} -P "$@" <"$input"
"""


class Checkout:
    """A checkout that scripts/init.sh has prepared, its containers up or down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "checkout"
        self.callers = folder / "the caller's folder"
        self.callers.mkdir()
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        (self.root / ".env").touch()
        self.identity = pyrage.x25519.Identity.generate()
        (folder / "key").write_text(str(self.identity))
        (folder / "bin").mkdir()
        docker = folder / "bin" / "docker"
        docker.write_text(DOCKER.format(folder=folder, root=ROOT, python=sys.executable))
        docker.chmod(0o755)
        self.environ = {"PATH": f"{docker.parent}:{os.environ['PATH']}", "HOME": str(folder)}
        (folder / "running").write_text("app\n")

    def cardctl(self, *arguments: str, **options: Any) -> CompletedProcess[Any]:
        return self.run([self.root / "scripts/cardctl", *arguments], **options)

    def run(self, command: Sequence[str | Path], **options: Any) -> CompletedProcess[Any]:
        defaults = {"cwd": self.callers, "env": self.environ, "text": True, "capture_output": True, "timeout": 60}
        standard_input = {} if "input" in options else {"stdin": subprocess.DEVNULL}
        return subprocess.run(command, check=False, **(defaults | standard_input | options))

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    @property
    def passed_on(self) -> list[str]:
        return (self.folder / "arguments").read_text().split("\0")[:-1]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def idle(checkout: Checkout) -> Checkout:
    """No command runs inside, where a test is about the way there: starting the app takes a second."""
    (checkout.folder / "idle").touch()
    return checkout


def test_it_asks_this_checkouts_containers_with_the_arguments_as_they_were(checkout: Checkout) -> None:
    assert checkout.cardctl("--help").returncode == 0
    assert checkout.calls[1:] == [f"{checkout.root}: compose exec -T app python -m app --help"]
    assert checkout.cardctl("healthcheck").returncode == 1
    assert checkout.cardctl("nonsense").returncode == 2
    (checkout.callers / "core").write_text("core")
    refusal = checkout.cardctl("file", "add", "core", "--", "b")  # the app explains
    assert (refusal.returncode, "Usage" in refusal.stderr) == (2, True)


def test_while_the_service_is_down_only_a_migration_runs_and_as_the_owner(checkout: Checkout) -> None:
    tools = checkout.folder / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "env"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    without_docker = checkout.cardctl("card", "list", env={"PATH": str(tools)})
    assert (without_docker.returncode, without_docker.stderr.count("\n")) == (1, 1)
    assert "docker is missing" in without_docker.stderr
    (checkout.folder / "running").write_text("")
    refusal = checkout.cardctl("card", "issue", "--validity", "1d", "--count", "1")
    assert refusal.returncode == 1
    assert "docker compose up -d" in refusal.stderr
    assert (refusal.stdout, refusal.stderr.count("\n"), len(checkout.calls)) == ("", 1, 1)
    assert checkout.cardctl("migrate").returncode == 0
    assert checkout.calls[1:] == [f"{checkout.root}: compose run --rm -T migrate python -m app migrate"]
    (checkout.folder / "bin/docker").write_text("#!/bin/sh\nexit 1\n")
    done = checkout.cardctl("doctor")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "Docker or Compose does not answer" in done.stderr


def test_a_data_folder_named_or_a_checkout_never_prepared_means_the_trial(idle: Checkout) -> None:
    named = idle.cardctl("card", "list", env=idle.environ | {"KADUN_DATA_DIR": "/nonexistent"})
    (idle.root / ".env").unlink()
    never = idle.cardctl("card", "list")
    for refusal in (named, never):
        assert (refusal.returncode, "scripts/run.sh" in refusal.stderr) == (1, True)
    assert not (idle.folder / "calls").exists()
    (idle.root / "secrets").mkdir()  # these alone mean the containers
    idle.cardctl("--help")
    assert "exec" in idle.calls[-1]


def test_a_person_at_a_terminal_gets_one_inside_where_no_password_is_echoed(idle: Checkout) -> None:
    outer, inner = pty.openpty()
    # No -T: Compose looks at standard output, and makes a terminal inside, on which nothing echoes.
    for command in ("--help", "admin add alice"):
        idle.cardctl(*command.split(), stdin=inner, stdout=inner, stderr=inner, capture_output=False)
        assert idle.passed_on == ["app", "python", "-m", "app", *command.split()]
    calls = len(idle.calls)
    # The output goes elsewhere, and what is typed would be shown.
    refusal = idle.cardctl("admin", "password", "alice", stdin=inner)
    assert (refusal.returncode, refusal.stderr.count("\n"), len(idle.calls)) == (1, 1, calls + 1)
    for end in (outer, inner):
        os.close(end)


def test_it_leaves_the_input_of_a_callers_loop_alone(idle: Checkout) -> None:
    for command in ("seal --help", 'admin remove "$name"'):
        loop = f'while read -r name; do "{idle.root}/scripts/cardctl" {command} >/dev/null; echo "$name"; done'
        done = idle.run(["bash", "-c", loop], input="first\nsecond\n")
        assert done.stdout.split() == ["first", "second"], command


def test_seal_takes_and_makes_the_callers_files_and_works_as_a_filter(checkout: Checkout) -> None:
    core = b"\0\r\n\xff" * 100_000
    (checkout.callers / "core").write_bytes(core)
    for option in ("-ocore.age", "--output=core.age"):
        done = checkout.cardctl("seal", option, "core")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        sealed = checkout.callers / "core.age"
        assert pyrage.decrypt(sealed.read_bytes(), [checkout.identity]) == core
        assert sorted(path.name for path in checkout.callers.iterdir()) == ["core", "core.age"]
        assert sealed.stat().st_mode & 0o777 == 0o644
    done = checkout.cardctl("seal", "-", "-o", "-", input=b"core", text=False)
    assert pyrage.decrypt(done.stdout, [checkout.identity]) == b"core"


def test_a_refused_seal_leaves_all_as_it_was(checkout: Checkout) -> None:
    (checkout.callers / "core").write_text("core")

    def refused(*arguments: str) -> int:
        before = {path.name: path.read_text() for path in checkout.callers.iterdir()}
        refusal = checkout.cardctl("seal", *arguments)
        assert refusal.stderr, arguments
        assert refusal.returncode == 2 or refusal.stderr.count("\n") == 1
        assert {path.name: path.read_text() for path in checkout.callers.iterdir()} == before
        return refusal.returncode

    for path, output in (("missing", "core.age"), (".", "core.age"), ("core", "missing/core.age")):
        assert refused(path, "-o", output) == 1
    for words in ("core", "-o core.age", "core -o", "core more -o core.age", "core --x -o core.age", "core -o core"):
        assert refused(*words.split()) == 2, words
    (checkout.callers / "core.age").write_text("of before")
    (checkout.folder / "key").write_text("a scheme of the vendor's own")  # it fails inside
    assert refused("core", "-o", "core.age") == 1


# A command line, and what the app gets: `-` where the file was. An underscore stands for a blank.
SENT = [
    (
        "file add --batch pro --name=x.dat 汇率_2026.dat",
        "file add - --name 汇率_2026.dat --size 4000 --batch pro --name x.dat",
    ),
    ("file add --batch pro -- -v.dat", "file add - --name -v.dat --size 1 --batch pro"),  # a name like an option
    ("card import 汇率_2026.dat --dry-run --format json", "card import - --size 4000 --dry-run --format json"),
    ("function run --arguments-file=汇率_2026.dat pro", "function run pro --arguments-file -"),
    ("function run pro --arguments-file 汇率_2026.dat", "function run pro --arguments-file -"),
]
ODD = ["card", "list", "--search", "a b  'c' \"d\" $HOME * 打开\n程序", ""]
WITH_INPUT = [
    ["key", "restore", "-"],
    ["file", "add", "-", "--size", "4", "--name", "core.age"],
    ["card", "import", "-", "--dry-run"],
    ["function", "run", "f", "--arguments-file", "-"],
    ["admin", "add", "alice"],
    ["admin", "password", "alice"],
]


def test_arguments_and_standard_input_are_passed_on_and_a_file_of_the_caller_becomes_it(idle: Checkout) -> None:
    contents = {"汇率 2026.dat": b"\0\r\n\xff" * 1000, "-v.dat": b"x", "pro": b"another", "x.dat": b"another"}
    for name, content in contents.items():
        (idle.callers / name).write_bytes(content)
    for line in SENT:
        words, passed_on = ([word.replace("_", " ") for word in side.split()] for side in line)
        idle.cardctl(*words)
        assert idle.passed_on == ["-T", "app", "python", "-m", "app", *passed_on]
        expected = contents["-v.dat" if "-v.dat" in words else "汇率 2026.dat"]
        assert (idle.folder / "input").read_bytes() == expected
    for path in ("missing", "."):  # no files
        before = len(idle.calls)
        refusal = idle.cardctl("file", "add", path)
        assert (refusal.returncode, refusal.stderr.count("\n")) == (1, 1)
        assert not [call for call in idle.calls[before:] if "-m app file" in call]
    for words in (ODD, *WITH_INPUT):
        idle.cardctl(*words, input="correct horse\n")
        assert idle.passed_on == ["-T", "app", "python", "-m", "app", *words]
        assert (idle.folder / "input").read_text() == ("" if words is ODD else "correct horse\n"), words


def test_the_wrapper_knows_the_options_of_the_commands_that_have_files() -> None:
    known = "".join(re.findall(r"^OPTIONS\+?=(.*)$", (ROOT / "scripts/cardctl").read_text(), re.MULTILINE))
    in_groups = (file.commands["add"], card.commands["import"], function.commands["run"], program.commands["add"])
    commands = (seal, *in_groups)
    options = [one for command in commands for one in command.params if isinstance(one, click.Option)]
    expected = {option.opts[-1].removeprefix("--") + ("" if option.is_flag else ":") for option in options}
    assert set(known.split(",")) == expected | {"help"}


def test_requirements_are_installed_by_a_container_of_their_own_and_then_taken_up(checkout: Checkout) -> None:
    checkout.cardctl("function", "install")
    assert [call.removeprefix(f"{checkout.root}: compose ") for call in checkout.calls[1:]] == [
        "--progress quiet run --rm -T functions-install",
        "exec -T app python -m app function reload",
    ]
