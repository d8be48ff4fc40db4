"""scripts/migrate-to.sh over a real sshd, into another folder of this very machine: nothing acknowledged is lost."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.e2e.exchange import quiet_port
from tests.e2e.moving import ship
from tests.e2e.stack import Stack, copy_checkout, run
from tests.service import wait_for

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile {folder}/pid
AuthorizedKeysFile {folder}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
"""
# What a broken server does: it gets ready, and fails when it counts.
BROKEN_IMPORT = "#!/bin/sh\ncat >/dev/null\ncase $1 in --prepare) exit 0 ;; esac\necho 'the disk broke' >&2\nexit 1\n"


@dataclass(frozen=True)
class Door:
    """The way into the other server."""

    port: int
    folder: Path

    def options(self) -> list[str]:
        settings = (
            f"IdentityFile={self.folder}/user",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.folder}/known",
            "StrictHostKeyChecking=yes",
        )
        return ["--ssh-port", str(self.port), *(word for item in settings for word in ("--ssh-option", item))]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder, port = tmp_path_factory.mktemp("sshd"), quiet_port()
    for name in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    (folder / "config").write_text(SSHD.format(port=port, folder=folder))
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd goes before it knows who comes
    sshd = shutil.which("sshd", path="/usr/sbin:/sbin")
    assert sshd, "openssh-server is missing"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen((sshd, "-D", "-e", "-f", folder / "config"), stderr=log)
    try:
        wait_for(lambda: "Server listening" in (folder / "log").read_text() or process.poll() is not None)
        yield Door(port, folder)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("old"))
    try:
        stack.init_anew("kadun.test")
        stack.up()
        yield stack
    finally:
        stack.remove()


class Customers(threading.Thread):
    """They activate one card after the other on a server until told to stop."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.stack = stack
        issued = stack.cardctl("card", "issue", "--validity", "30d", "--count", "400", "--format", "json")
        self.cards = [card["id"] for card in issued]
        self.acknowledged: list[str] = []
        self.statuses: list[int] = []
        self.strange: list[str] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        while self.cards and not self.stopping.wait(0.15):  # within what one address may ask
            card = self.cards.pop()
            try:
                status, retry_after = self.ask(card)
            except (OSError, HTTPException) as error:
                self.strange.append(repr(error))
                continue
            self.statuses.append(status)
            if status == 200:
                self.acknowledged.append(card)
            elif status != 503 or retry_after is None:
                self.strange.append(f"{status} {retry_after}")

    def ask(self, card: str) -> tuple[int, str | None]:
        body = f'{{"card_id":"{card}","hardware":"pc of {card}","function":"打开程序","nonce":"{card}"}}'
        connection = self.stack.connection()
        try:
            connection.request("POST", "/v1/verify", body.encode(), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers["Retry-After"]
        finally:
            connection.close()

    def finish(self) -> None:
        self.stopping.set()
        self.join()


def migrate(old: Stack, door: Door, *options: str | Path) -> subprocess.CompletedProcess[str]:
    return old.script("migrate-to.sh", "root@127.0.0.1", *door.options(), *options, check=False)


def test_a_server_that_will_not_do_is_refused_while_this_one_serves_on(old: Stack, door: Door, tmp_path: Path) -> None:
    started = old.inspect("app")["State"]["StartedAt"]
    (tmp_path / "theirs").write_text("something else")
    taken = migrate(old, door, "--directory", tmp_path)
    assert taken.returncode == 1
    assert "is not empty, and no checkout of Kadun" in taken.stderr
    copy_checkout(tmp_path / "older")
    for migration in (tmp_path / "older/app/storage/migrations").glob("[0-9]*.py"):
        migration.rename(migration.with_name("0000_before.py"))
    older = migrate(old, door, "--directory", tmp_path / "older")
    assert older.returncode == 1
    assert "is older than here" in older.stderr
    nobody = old.script("migrate-to.sh", "root@127.0.0.1", "--ssh-port", str(quiet_port()), check=False)
    assert nobody.returncode == 1
    assert "Cannot log in to root@127.0.0.1" in nobody.stderr
    assert old.inspect("app")["State"]["StartedAt"] == started


def test_when_the_import_fails_over_there_this_server_serves_again(old: Stack, door: Door, tmp_path: Path) -> None:
    copy_checkout(tmp_path / "broken")
    (tmp_path / "broken/scripts/import.sh").write_text(BROKEN_IMPORT)
    customers = Customers(old)
    customers.start()
    failed = migrate(old, door, "--directory", tmp_path / "broken")
    customers.finish()
    assert failed.returncode == 1
    assert "the disk broke" in failed.stderr
    assert "The move failed; this server serves again" in failed.stderr
    assert 503 in customers.statuses
    assert not customers.strange
    assert customers.ask(customers.cards.pop())[0] == 200


def test_the_whole_house_moves_and_no_acknowledged_activation_is_lost(
    old: Stack, door: Door, tmp_path_factory: pytest.TempPathFactory
) -> None:
    new = Stack(tmp_path_factory.mktemp("elsewhere") / "not yet there")
    shutil.rmtree(new.folder)
    try:
        program = ship(old, tmp_path_factory.mktemp("program"), "a pc")
        program.open_on(old)
        customers = Customers(old)
        customers.start()
        ports = ("--http-port", str(new.http_port), "--https-port", str(new.https_port))
        moved = migrate(old, door, "--directory", new.folder, "--project", new.project, *ports)
        assert moved.returncode == 0, moved.stderr
        asked = len(customers.statuses)
        wait_for(lambda: len(customers.statuses) > asked + 3 or customers.strange)
        customers.finish()
        assert not customers.strange
        assert "Point the DNS records (A, AAAA) of kadun.test at the new server" in moved.stdout
        assert set(customers.statuses) == {200, 503}
        assert set(customers.statuses[-10:]) == {503}, "the old one is on leave"
        # One that the old server still served beside the new one would be missing here.
        arrived = set(new.sql("backup", "SELECT id FROM card WHERE is_activated").split())
        assert set(customers.acknowledged) <= arrived
        assert not program.open_on(new)["activated"]
        back = old.script("migrate-to.sh", "--resume-here")
        assert "This server serves again" in back.stdout
        assert customers.ask(customers.cards.pop())[0] == 200
    finally:
        new.remove()
