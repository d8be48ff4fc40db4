"""scripts/cardctl where the service runs in containers, with a `docker` that only writes down its calls.

Where it runs a command, it does so in another folder: a wall such as the container's. It takes all of its
input at once, as the real one does.
"""

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pyrage
import pytest

from tests.support.service import ROOT

DOCKER = """\
#!/bin/bash
printf '%s\\n' "$PWD: $*" >>"{folder}/calls"
while [[ $1 != exec && $1 != ps && $1 != run ]]; do shift; done
[[ $1 != run ]] || exit 0
if [[ $1 == ps ]]; then cat "{folder}/running"; exit; fi
printf '%s\\0' "${{@:2}}" >"{folder}/arguments"
input=/dev/null
if [[ $2 == -T ]]; then input="{folder}/input"; cat >"$input"; fi
environment=()
while [[ $1 != python ]]; do
    if [[ $1 == --env ]]; then environment+=("$2"); fi
    shift
done
shift
cd / && exec env -i "${{environment[@]}}" PYTHONPATH="{root}" DATABASE_URL=postgresql://nowhere \\
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
        programs = folder / "bin"
        programs.mkdir()
        docker = programs / "docker"
        docker.write_text(DOCKER.format(folder=folder, root=ROOT, python=sys.executable))
        docker.chmod(0o755)
        self.environ = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder)}
        self.up()

    def up(self) -> None:
        (self.folder / "running").write_text("0123456789ab\n")

    def down(self) -> None:
        (self.folder / "running").write_text("")

    def cardctl(self, *arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
        defaults: dict[str, object] = {
            "stdin": subprocess.DEVNULL,
            "cwd": self.callers,
            "env": self.environ,
            "text": True,
        }
        return subprocess.run(
            [self.root / "scripts" / "cardctl", *arguments],
            check=False,
            capture_output=True,
            **(defaults | options),
        )

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def passed_on(self) -> list[str]:
        return (self.folder / "arguments").read_text().split("\0")[:-1]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_it_asks_this_checkouts_containers_wherever_the_caller_stands(checkout: Checkout) -> None:
    checkout.cardctl("--help")
    assert checkout.calls == [
        f"{checkout.root}: compose ps --quiet --status running app",
        f"{checkout.root}: compose exec -T app python -m app --help",
    ]


def test_a_migration_runs_as_the_owner_in_a_container_of_its_own_even_while_the_service_is_down(
    checkout: Checkout,
) -> None:
    checkout.down()
    assert checkout.cardctl("migrate").returncode == 0
    assert checkout.calls == [f"{checkout.root}: compose run --rm -T migrate python -m app migrate"]


def test_arguments_arrive_as_they_were(checkout: Checkout) -> None:
    odd = ["card", "list", "--search", "a b  'c' \"d\" $HOME * 打开\n程序", ""]
    checkout.cardctl(*odd)
    assert checkout.passed_on == ["-T", "app", "python", "-m", "app", *odd]


def test_the_exit_status_passes_through(checkout: Checkout) -> None:
    assert checkout.cardctl("--help").returncode == 0
    assert checkout.cardctl("healthcheck").returncode == 1
    assert checkout.cardctl("nonsense").returncode == 2


def test_containers_that_are_down_are_said_to_be_and_nothing_is_run(checkout: Checkout) -> None:
    checkout.down()
    refusal = checkout.cardctl("card", "issue", "--validity", "1d", "--count", "1")
    assert refusal.returncode == 1
    assert "docker compose up -d" in refusal.stderr
    assert (refusal.stdout, refusal.stderr.count("\n"), len(checkout.calls)) == ("", 1, 1)


def test_without_docker_one_line_says_so(checkout: Checkout, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "env"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    refusal = checkout.cardctl("card", "list", env={"PATH": str(tools)})
    assert (refusal.returncode, refusal.stderr.count("\n")) == (1, 1)
    assert "docker is missing" in refusal.stderr


def test_a_data_folder_named_means_the_trial(checkout: Checkout) -> None:
    refusal = checkout.cardctl("card", "list", env=checkout.environ | {"KADUN_DATA_DIR": "/nonexistent"})
    assert (refusal.returncode, checkout.calls) == (1, [])
    assert "scripts/run.sh" in refusal.stderr


def test_a_checkout_that_was_never_prepared_means_the_trial(checkout: Checkout) -> None:
    (checkout.root / ".env").unlink()
    refusal = checkout.cardctl("card", "list")
    assert (refusal.returncode, checkout.calls) == (1, [])
    assert "scripts/run.sh" in refusal.stderr


def test_secrets_alone_mean_the_containers(checkout: Checkout) -> None:
    (checkout.root / ".env").unlink()
    (checkout.root / "secrets").mkdir()
    checkout.cardctl("--help")
    assert "exec" in checkout.calls[-1]


def test_a_person_at_a_terminal_gets_one_inside(checkout: Checkout) -> None:
    outer, inner = pty.openpty()
    try:
        subprocess.run(
            [checkout.root / "scripts" / "cardctl", "--help"],
            env=checkout.environ,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            check=True,
        )
    finally:
        os.close(inner)
        os.close(outer)
    assert checkout.passed_on == ["app", "python", "-m", "app", "--help"]


def test_it_leaves_the_input_of_a_callers_loop_alone(checkout: Checkout) -> None:
    loop = f'while read -r card; do "{checkout.root}/scripts/cardctl" seal --help; echo "$card"; done'
    done = subprocess.run(
        ["bash", "-c", loop],
        env=checkout.environ,
        input="first\nsecond\n",
        capture_output=True,
        check=True,
        text=True,
    )
    assert [line for line in done.stdout.splitlines() if line in ("first", "second")] == ["first", "second"]


@pytest.mark.parametrize("option", [["-ocore.age"], ["--output=core.age"]])
def test_seal_takes_and_makes_the_callers_files(checkout: Checkout, option: list[str]) -> None:
    core = b"\0\r\n\xff" * 100_000
    (checkout.callers / "core").write_bytes(core)
    done = checkout.cardctl("seal", *option, "core")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    sealed = checkout.callers / "core.age"
    assert pyrage.decrypt(sealed.read_bytes(), [checkout.identity]) == core
    assert sorted(path.name for path in checkout.callers.iterdir()) == ["core", "core.age"]
    assert sealed.stat().st_mode & 0o777 == 0o644


def test_seal_works_as_a_filter(checkout: Checkout) -> None:
    done = subprocess.run(
        [checkout.root / "scripts/cardctl", "seal", "-", "-o", "-"],
        env=checkout.environ,
        input=b"core",
        capture_output=True,
        check=True,
    )
    assert pyrage.decrypt(done.stdout, [checkout.identity]) == b"core"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["missing", "-o", "core.age"], 1),
        ([".", "-o", "core.age"], 1),
        (["core", "-o", "missing/core.age"], 1),
        (["core"], 2),
        (["-o", "core.age"], 2),
        (["core", "-o"], 2),
        (["core", "more", "-o", "core.age"], 2),
        (["core", "--nonsense", "-o", "core.age"], 2),
        (["core", "-o", "core"], 2),
    ],
)
def test_a_refused_seal_leaves_all_as_it_was(checkout: Checkout, arguments: list[str], status: int) -> None:
    (checkout.callers / "core").write_text("core")
    refusal = checkout.cardctl("seal", *arguments)
    assert refusal.returncode == status
    assert refusal.stderr
    assert status == 2 or refusal.stderr.count("\n") == 1
    assert [(path.name, path.read_text()) for path in checkout.callers.iterdir()] == [("core", "core")]


SENT = {
    "file add": ["file", "add", "--batch", "pro", "--name=x.dat", "汇率 2026.dat"],
    "file add, a name like an option": ["file", "add", "--batch", "pro", "--", "-v.dat"],
    "card import": ["card", "import", "汇率 2026.dat", "--dry-run", "--format", "json"],
    "function run": ["function", "run", "--arguments-file=汇率 2026.dat", "汇率换算"],
}


@pytest.mark.parametrize("words", SENT.values(), ids=SENT)
def test_the_callers_file_becomes_standard_input_with_its_size(checkout: Checkout, words: list[str]) -> None:
    contents = {"汇率 2026.dat": b"\0\r\n\xff" * 1000, "-v.dat": b"x", "pro": b"another", "x.dat": b"another"}
    for name, content in contents.items():
        (checkout.callers / name).write_bytes(content)
    checkout.cardctl(*words)
    expected = contents["-v.dat" if "-v.dat" in words else "汇率 2026.dat"]
    size = f"KADUN_CALLER_INPUT_SIZE={len(expected)}"
    assert checkout.passed_on == ["-T", "--env", size, "app", "python", "-m", "app", *words]
    assert (checkout.folder / "input").read_bytes() == expected


@pytest.mark.parametrize("arguments", [["--size", "1", "core.age"], ["core.age", "--", "b"]])
def test_a_wrong_call_is_explained_by_the_app(checkout: Checkout, arguments: list[str]) -> None:
    (checkout.callers / "core.age").write_bytes(b"core")
    refusal = checkout.cardctl("file", "add", *arguments)
    assert (refusal.returncode, "Usage" in refusal.stderr) == (2, True)
    assert checkout.passed_on[-len(arguments) :] == arguments


PIPED = {
    "file add": ["file", "add", "--size=4", "-", "--name", "core.age"],
    "card import": ["card", "import", "-", "--dry-run"],
    "function run": ["function", "run", "--arguments-file=-", "f"],
}


@pytest.mark.parametrize("words", PIPED.values(), ids=PIPED)
def test_standard_input_is_passed_on(checkout: Checkout, words: list[str]) -> None:
    command = [checkout.root / "scripts/cardctl", *words]
    subprocess.run(command, env=checkout.environ, input=b"core", capture_output=True, check=False)
    assert checkout.passed_on == ["-T", "app", "python", "-m", "app", *words]
    assert (checkout.folder / "input").read_bytes() == b"core"


@pytest.mark.parametrize("path", ["missing", "."])
def test_what_is_no_file_is_refused_before_anything_is_sent(checkout: Checkout, path: str) -> None:
    refusal = checkout.cardctl("file", "add", path)
    assert (refusal.returncode, refusal.stderr.count("\n")) == (1, 1)
    assert not [call for call in checkout.calls if "-m app file" in call]


def test_requirements_are_installed_by_a_container_of_their_own_and_then_taken_up(checkout: Checkout) -> None:
    checkout.cardctl("function", "install")
    assert [call.removeprefix(f"{checkout.root}: compose ") for call in checkout.calls[1:]] == [
        "--progress quiet run --rm -T functions-install",
        "exec -T app python -m app function reload",
    ]


def test_a_seal_that_fails_inside_keeps_the_file_of_before(checkout: Checkout) -> None:
    (checkout.folder / "key").write_text("a scheme of the vendor's own")
    (checkout.callers / "core").write_text("core")
    (checkout.callers / "core.age").write_text("of before")
    refusal = checkout.cardctl("seal", "core", "-o", "core.age")
    assert (refusal.returncode, refusal.stderr.count("\n")) == (1, 1)
    assert (checkout.callers / "core.age").read_text() == "of before"
    assert len(list(checkout.callers.iterdir())) == 2


@pytest.mark.parametrize("command", ["add", "password"])
def test_a_password_goes_through_the_wall_as_standard_input(checkout: Checkout, command: str) -> None:
    with (checkout.folder / "typed").open("w+") as typed:
        typed.write("correct horse battery\n")
        typed.seek(0)
        checkout.cardctl("admin", command, "alice", stdin=typed)
    assert checkout.passed_on == ["-T", "app", "python", "-m", "app", "admin", command, "alice"]
    assert (checkout.folder / "input").read_text() == "correct horse battery\n"


def test_nothing_else_about_operators_takes_the_callers_input(checkout: Checkout) -> None:
    loop = f'while read -r name; do "{checkout.root}/scripts/cardctl" admin remove "$name"; echo "$name"; done'
    done = subprocess.run(
        ["bash", "-c", loop], env=checkout.environ, input="admin\nbob\n", capture_output=True, check=True, text=True
    )
    assert done.stdout.split() == ["admin", "bob"]


@pytest.mark.parametrize("redirection", ["", ">/dev/null"])
def test_a_password_is_typed_on_a_terminal_inside_wherever_the_output_goes(
    checkout: Checkout, redirection: str
) -> None:
    command = f'"{checkout.root}/scripts/cardctl" admin add alice {redirection}'
    outer, inner = pty.openpty()
    try:
        subprocess.run(
            ["bash", "-c", command], env=checkout.environ, stdin=inner, stdout=inner, stderr=inner, check=False
        )
    finally:
        os.close(inner)
        os.close(outer)
    # No -T: Compose looks at standard output, and makes a terminal inside, on which nothing echoes.
    assert checkout.passed_on == ["app", "python", "-m", "app", "admin", "add", "alice"]


def test_a_password_is_not_typed_where_it_would_be_echoed(checkout: Checkout) -> None:
    outer, inner = pty.openpty()
    try:
        refusal = checkout.cardctl("admin", "password", "alice", stdin=inner)
    finally:
        os.close(inner)
        os.close(outer)
    assert (refusal.returncode, refusal.stderr.count("\n"), len(checkout.calls)) == (1, 1, 1)
