"""scripts/export.sh --final: a move by file, which loses nothing, can be undone, and which the SDK rides through."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.http_exchange import quiet_port
from tests.support.moving import Customers, Program, fingerprint, ship, type_at
from tests.support.service import wait_for
from tests.support.stack import ROOT, Stack, run

pytestmark = [pytest.mark.containers, pytest.mark.long]

MOVED = "The service moved to "
# A slow disk: the export does not end.
SLOW_AGE = '#!/bin/sh\n[ "$1" = --passphrase ] && exec sleep 60\nexec {age} "$@"\n'
# A customer's program, with the policy that docs/client.md gives for a move; it says when it waits.
PROGRAM = """
import sys, time, kadun
from kadun.retries import RetryPolicy

def pause(seconds):
    print("waits", flush=True)
    time.sleep(seconds)

url, keys, card, hardware, ca = sys.argv[1:]
policy = RetryPolicy(tries=8, sleep=pause)
client = kadun.Client(url, keys, card, hardware=hardware, ca_file=ca, state_dir=None, retry_policy=policy)
print("opened", client.open().activated)
"""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("old")) as stack:
        stack.init_anew("kadun.test")
        stack.up()
        yield stack


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("identity") / "of ours"
    run("age-keygen", "-o", file)
    return file


def recipient(identity: Path) -> tuple[str, str]:
    return "--recipient", run("age-keygen", "-y", identity).stdout.strip()


def is_served(stack: Stack) -> bool:
    card = stack.new_card()
    return bool(stack.verify(card, f"pc of {card}")["code"] == "OK")


def is_marked(stack: Stack) -> bool:
    return (stack.folder / "data/keys/moved-to").exists()


def test_a_plain_export_marks_nothing(old: Stack, identity: Path, tmp_path: Path) -> None:
    started = old.inspect("app")["State"]["StartedAt"]
    old.script("export.sh", "-o", tmp_path / "copy", *recipient(identity))
    assert not is_marked(old)
    assert old.inspect("app")["State"]["StartedAt"] == started
    assert is_served(old)


def test_a_final_export_is_a_file(old: Stack) -> None:
    command = (old.folder / "scripts/export.sh", "--final", "-o", "-", "--unencrypted")
    refused = subprocess.run(command, capture_output=True, text=True, check=False)  # into a pipe
    assert refused.returncode == 2
    assert "--final writes a file" in refused.stderr
    assert not is_marked(old)


def test_after_a_failed_final_export_this_server_serves_again(old: Stack, identity: Path, tmp_path: Path) -> None:
    customers = Customers(old)
    customers.start()
    run("mount", "-t", "tmpfs", "-o", "size=8k", "none", tmp_path)
    try:
        failed = old.script("export.sh", "--final", "-o", tmp_path / "full", *recipient(identity), check=False)
        left = list(tmp_path.iterdir())
    finally:
        run("umount", tmp_path)
        customers.finish()
    assert failed.returncode == 1
    assert "is the disk full?" in failed.stderr
    assert "The export failed; this server serves again" in failed.stderr
    assert left == []
    assert not is_marked(old)
    assert 503 in customers.statuses
    assert not customers.strange
    assert customers.ask(customers.cards.pop())[0] == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_final_export_leaves_no_bundle(old: Stack, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "age").write_text(SLOW_AGE.format(age=shutil.which("age")))
    (tmp_path / "age").chmod(0o755)
    bundle, slow = tmp_path / "bundle", os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with (tmp_path / "log").open("w") as log:
        exporting = subprocess.Popen(
            (old.folder / "scripts/export.sh", "--final", "-o", bundle, "--passphrase"),
            stdout=log, stderr=log, start_new_session=True, env=slow,
        )  # fmt: skip
    wait_for(lambda: old.inspect("app")["State"]["Status"] == "exited" or exporting.poll() is not None, 120)
    os.killpg(exporting.pid, number)
    exporting.wait(120)
    if number == signal.SIGKILL:
        assert is_marked(old)
        assert f"{MOVED}迁移包 bundle {bundle} at " in old.script("backup.sh", check=False).stderr
        assert "This server serves again" in old.script("migrate-to.sh", "--resume-here").stdout
    else:
        assert exporting.returncode == 130
        assert "The export failed; this server serves again" in (tmp_path / "log").read_text()
    assert not bundle.exists()
    assert not is_marked(old)
    assert is_served(old)


class Names:
    """A hosts file, as a program sees it: the DNS record of kadun.test."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def point_at(self, address: str) -> None:
        self.file.write_text(f"{address} kadun.test\n")

    def start(self, *command: str | Path) -> subprocess.Popen[str]:
        """Start a command that resolves the name by this file."""
        bind = ("sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"')
        return subprocess.Popen(
            ("unshare", "--mount", *bind, self.file, *command), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=os.environ | {"PYTHONPATH": str(ROOT / "client/src")},
        )  # fmt: skip


@contextmanager
def forwarded(address: str, port: int, target: int) -> Iterator[None]:
    """Listen on an address for a stack, which listens on another port of this machine."""

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65_536):
                sink.sendall(chunk)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def connect(near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", target)) as far:
            answers = threading.Thread(target=copy, args=(far, near))
            answers.start()
            copy(near, far)
            answers.join()

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=connect, args=(listener.accept()[0],)).start()

    with socket.create_server((address, port)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


def open_while_moving(program: Program, old: Stack, new: Stack, hosts: Path) -> str:
    """Open a program while its name still leads to the old server, and then change the name; return what it says."""
    names, port = Names(hosts), quiet_port()
    names.point_at("127.0.0.1")
    with forwarded("127.0.0.1", port, old.https_port), forwarded("127.0.0.2", port, new.https_port):
        url, ca = f"https://kadun.test:{port}", str(old.folder / "https_certificates/fullchain.pem")
        facts = (url, program.keys, program.card, program.hardware, ca)
        opening = names.start(sys.executable, "-c", PROGRAM, *facts)
        assert opening.stdout
        assert opening.stdout.readline() == "waits\n", "the old server answers 503"
        names.point_at("127.0.0.2")
        said, errors = opening.communicate(timeout=120)
        assert opening.returncode == 0, errors
        return said.splitlines()[-1]


def test_a_final_export_moves_everything_and_can_be_undone(
    old: Stack, identity: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program = ship(old, tmp_path, "a pc")
    program.open_on(old)
    customers = Customers(old)
    customers.start()
    wait_for(lambda: len(customers.acknowledged) >= 3)
    bundle = tmp_path / "the shop's 迁移 $(bundle).tar.age"
    said = old.script("export.sh", "--final", "-o", bundle, *recipient(identity)).stdout
    asked = len(customers.statuses)
    wait_for(lambda: len(customers.statuses) > asked + 3 or customers.strange)
    customers.finish()
    assert not customers.strange, "503 with Retry-After"
    assert set(customers.statuses[-3:]) == {503}
    assert MOVED in old.script("export.sh", "--passphrase", check=False).stderr
    assert old.compose("up", "--detach", "--wait", check=False).returncode != 0
    new = Stack(tmp_path_factory.mktemp("new"))
    try:
        shutil.copy(bundle, new.folder)
        shutil.copy(identity, new.folder / "backup-identity.txt")
        # The line as it stands; what else this machine needs, since the old server runs on it, is in .env already.
        new.init_anew("kadun.test")
        line = said.splitlines()[-1].strip()
        identified = ["--identity", "backup-identity.txt", *fingerprint(old)]
        assert shlex.split(line) == ["scripts/import.sh", bundle.name, *identified]
        run("bash", "-c", line, cwd=new.folder)
        arrived = set(new.sql("backup", "SELECT id FROM card WHERE is_activated").split())
        assert set(customers.acknowledged) <= arrived
        assert open_while_moving(program, old, new, tmp_path / "hosts") == "opened False"
        assert "This server serves again" in old.script("migrate-to.sh", "--resume-here").stdout
        assert is_served(old)
    finally:
        new.remove()


def test_the_line_for_a_passphrase_names_no_identity(old: Stack, tmp_path: Path) -> None:
    export = [old.folder / "scripts/export.sh", "-o", tmp_path / "-x.age", "--passphrase"]
    status, shown = type_at(export, ["a passphrase", "a passphrase"])
    assert status == 0, shown
    assert shown.splitlines()[-1].strip() == f"scripts/import.sh './-x.age' {' '.join(fingerprint(old))}"
