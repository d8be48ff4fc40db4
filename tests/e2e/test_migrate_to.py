"""scripts/migrate-to.sh over a real sshd, into another folder of this machine, loses nothing that was acknowledged."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http_exchange import quiet_port
from tests.support.moving import Customers, ship
from tests.support.service import wait_for
from tests.support.ssh import SshServer, ssh_server
from tests.support.stack import Stack, copy_checkout, run

pytestmark = pytest.mark.containers

# A slow server: it is prepared, and then the import does not end.
SLOW_IMPORT = "#!/bin/sh\ncase $1 in --prepare) cat >/dev/null; exit 0 ;; esac\nexec sleep 60\n"
# A broken server: it is prepared, and then the import fails.
BROKEN_IMPORT = "#!/bin/sh\ncat >/dev/null\ncase $1 in --prepare) exit 0 ;; esac\necho 'the disk broke' >&2\nexit 1\n"


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("old")) as stack:
        stack.init_anew("kadun.test")
        stack.up()
        yield stack


def migrate(old: Stack, ssh: SshServer, *options: str | Path) -> subprocess.CompletedProcess[str]:
    return old.script("migrate-to.sh", "root@127.0.0.1", *ssh.options(), *options, check=False)


def test_an_unsuitable_server_is_refused_while_this_one_keeps_serving(
    old: Stack, ssh: SshServer, tmp_path: Path
) -> None:
    started = old.inspect("app")["State"]["StartedAt"]
    (tmp_path / "theirs").write_text("something else")
    taken = migrate(old, ssh, "--directory", tmp_path)
    assert taken.returncode == 1
    assert "is not empty and not a checkout of Kadun" in taken.stderr
    copy_checkout(tmp_path / "older")
    for migration in (tmp_path / "older/app/storage/migrations").glob("[0-9]*.py"):
        migration.rename(migration.with_name("0000_before.py"))
    older = migrate(old, ssh, "--directory", tmp_path / "older")
    assert older.returncode == 1
    assert "is older than here" in older.stderr
    copy_checkout(tmp_path / "unaware")  # of signatures, with the same schema
    importing = tmp_path / "unaware/scripts/import.sh"
    importing.write_text(importing.read_text().replace('"$TRUST_OPTIONS ', '"'))
    unaware = migrate(old, ssh, "--directory", tmp_path / "unaware")
    assert unaware.returncode == 1
    assert "unknown argument: --fingerprint" in unaware.stderr
    assert "this one keeps serving" in unaware.stderr
    nobody = old.script("migrate-to.sh", "root@127.0.0.1", "--ssh-port", str(quiet_port()), check=False)
    assert nobody.returncode == 1
    assert "Cannot log in to root@127.0.0.1" in nobody.stderr
    assert old.inspect("app")["State"]["StartedAt"] == started


def test_after_a_failed_import_this_server_serves_again(old: Stack, ssh: SshServer, tmp_path: Path) -> None:
    copy_checkout(tmp_path / "broken")
    (tmp_path / "broken/scripts/import.sh").write_text(BROKEN_IMPORT)
    customers = Customers(old)
    customers.start()
    failed = migrate(old, ssh, "--directory", tmp_path / "broken")
    customers.finish()
    assert failed.returncode == 1
    assert "the disk broke" in failed.stderr
    assert "The move failed; this server serves again" in failed.stderr
    assert 503 in customers.statuses
    assert not customers.strange
    assert customers.ask(customers.cards.pop())[0] == 200


class Move:
    """migrate-to.sh, running: this server has stopped serving."""

    def __init__(self, old: Stack, ssh: SshServer, log: Path, *options: str | Path) -> None:
        command = (old.folder / "scripts/migrate-to.sh", "root@127.0.0.1", *ssh.options(), *options)
        self._log = log  # a file: ssh's own child keeps what it was given open for a while
        with log.open("w") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        wait_for(lambda: old.inspect("app")["State"]["Status"] == "exited" or self.process.poll() is not None, 120)

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def end(self) -> str:
        """Wait for its end and return its output."""
        self.process.wait(120)
        return self._log.read_text()


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    copy_checkout(tmp_path / "slow")
    (tmp_path / "slow/scripts/import.sh").write_text(SLOW_IMPORT)
    return tmp_path / "slow"


def test_ctrl_c_brings_this_server_back(old: Stack, ssh: SshServer, slow: Path) -> None:
    moving = Move(old, ssh, slow / "log", "--directory", slow)
    moving.kill(signal.SIGINT)
    assert "The move failed; this server serves again" in moving.end()
    assert moving.process.returncode == 130
    card = old.new_card()
    assert old.verify(card, f"pc of {card}")["code"] == "OK"


def test_after_a_power_cut_it_serves_only_when_told(old: Stack, ssh: SshServer, slow: Path) -> None:
    moving = Move(old, ssh, slow / "log", "--directory", slow)
    moving.kill(signal.SIGKILL)
    moving.end()
    moved = f"The service moved to root@127.0.0.1:{slow} at "
    up = old.compose("up", "--detach", "--wait", check=False)
    assert up.returncode != 0
    assert moved in old.compose("logs", "migrate").stdout
    run("docker", "start", str(old.inspect("app")["Id"]))  # past Compose, and so past `migrate`
    wait_for(lambda: moved in old.compose("logs", "app").stdout)
    issuing = ("cardctl", "card", "issue", "--validity", "1d", "--count", "1")
    wait_for(lambda: moved in old.script(*issuing, check=False).stderr)  # Docker starts the app over and over
    assert moved in old.script("cardctl", "doctor", check=False).stdout
    assert "This server serves again" in old.script("migrate-to.sh", "--resume-here").stdout
    number = old.new_card()
    assert old.verify(number, f"pc of {number}")["code"] == "OK"


def cut_off(ssh: SshServer) -> None:
    """End the sessions of sshd, as a lost connection does."""
    server = (ssh.folder / "pid").read_text().strip()
    for pid in run("ps", "--ppid", server, "-o", "pid=").stdout.split():
        os.kill(int(pid), signal.SIGKILL)


def test_the_second_attempt_moves_everything_and_loses_no_acknowledged_activation(
    old: Stack, ssh: SshServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    new = Stack(tmp_path_factory.mktemp("elsewhere") / "not yet there")
    shutil.rmtree(new.folder)
    try:
        program = ship(old, tmp_path_factory.mktemp("program"), "a pc")
        program.open_on(old)
        customers = Customers(old)
        customers.start()
        ports = ("--http-port", str(new.http_port), "--https-port", str(new.https_port))
        there = ("--directory", new.folder, "--project", new.project, *ports)
        first = Move(old, ssh, tmp_path_factory.mktemp("first") / "log", *there)
        wait_for(lambda: (new.folder / "data/.arrived").exists() or first.process.poll() is not None, 120)
        cut_off(ssh)
        assert "The move failed; this server serves again" in first.end()
        seen = len(customers.acknowledged)
        wait_for(lambda: len(customers.acknowledged) > seen + 3)
        # The import over there may go on without us, and it is one at a time.
        wait_for(lambda: run("flock", "-n", new.folder / "data/.stack.lock", "true", check=False).returncode == 0, 120)
        moved = migrate(old, ssh, *there)
        assert moved.returncode == 0, moved.stderr
        assert new.sql("backup", "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname ~ 'kadun'") == "kadun"
        asked = len(customers.statuses)
        wait_for(lambda: len(customers.statuses) > asked + 3 or customers.strange)
        customers.finish()
        assert not customers.strange
        assert "Point the DNS records (A, AAAA) of kadun.test at the new server" in moved.stdout
        assert set(customers.statuses) == {200, 503}
        assert set(customers.statuses[-10:]) == {503}, "the old server answers 503"
        # One that the old server still served beside the new one would be missing here.
        arrived = set(new.sql("backup", "SELECT id FROM card WHERE is_activated").split())
        assert set(customers.acknowledged) <= arrived
        assert not program.open_on(new)["activated"]
        back = old.script("migrate-to.sh", "--resume-here")
        assert "This server serves again" in back.stdout
        assert customers.ask(customers.cards.pop())[0] == 200
    finally:
        new.remove()
