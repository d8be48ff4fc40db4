"""scripts/migrate-to.sh over a real sshd, into another folder of this machine, loses nothing and overwrites nothing."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.customers import Customers
from tests.support.moved import rows
from tests.support.servers import Vendor
from tests.support.service import wait_for
from tests.support.ssh import SshServer, ssh_server
from tests.support.stack import Stack, run

pytestmark = pytest.mark.xdist_group("servers")


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def new(vendor: Vendor, tmp_path: Path) -> Iterator[Stack]:
    """A server whose folder is not there yet, but the image is."""
    stack = vendor.fresh_server(tmp_path / "not yet there")
    shutil.rmtree(stack.folder)
    yield stack
    stack.remove()


def migrate(old: Stack, ssh: SshServer, *options: str | Path) -> subprocess.CompletedProcess[str]:
    return old.script("migrate-to.sh", "root@127.0.0.1", *ssh.options(), *options, check=False)


def broken_off(old: Stack, ssh: SshServer, new: Stack, log: Path, *options: str | Path) -> str:
    """Move until the new server has the data, and then lose the connection; return what the script says."""
    command = (old.folder / "scripts/migrate-to.sh", "root@127.0.0.1", *ssh.options(), *options)
    with log.open("w") as file:  # a file: ssh's own child keeps what it was given open for a while
        moving = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    wait_for(lambda: (new.folder / "data/.arrived").exists() or moving.poll() is not None, 120)
    server = (ssh.folder / "pid").read_text().strip()
    for pid in run("ps", "--ppid", server, "-o", "pid=").stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    moving.wait(120)
    return log.read_text()


def test_the_second_attempt_moves_everything_and_a_server_that_went_on_is_not_overwritten(
    vendor: Vendor, ssh: SshServer, new: Stack, tmp_path: Path
) -> None:
    old, customers = vendor.stack, Customers(vendor.stack)
    ports = ("--http-port", str(new.http_port), "--https-port", str(new.https_port))
    there = ("--directory", new.folder, "--project", new.project, *ports)
    with customers:
        said = broken_off(old, ssh, new, tmp_path / "log", *there)
        assert "The move failed; this server serves again" in said
        customers.wait_for_more(4)
        # The import over there may go on without us, and it is one at a time.
        wait_for(lambda: run("flock", "-n", new.folder / "data/.stack.lock", "true", check=False).returncode == 0, 120)
        moved = migrate(old, ssh, *there)
        assert moved.returncode == 0, moved.stderr
        asked = len(customers.statuses)
        wait_for(lambda: len(customers.statuses) > asked + 3 or customers.failures)
    assert new.sql("backup", "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname ~ 'kadun'") == "kadun"
    assert customers.failures == []
    assert "Point the DNS records (A, AAAA) of kadun.test at the new server" in moved.stdout
    assert set(customers.statuses) == {200, 503}
    assert set(customers.statuses[-3:]) == {503}, "the old server answers 503"
    # One that the old server still served beside the new one would be missing here.
    arrived = set(new.sql("backup", "SELECT id FROM card WHERE is_activated").split())
    assert set(customers.acknowledged) <= arrived
    assert not vendor.program.open_on(new)["activated"]
    new.new_card()
    before = rows(new)["card"]
    assert "This server serves again" in old.script("migrate-to.sh", "--resume-here").stdout
    again = migrate(old, ssh, *there)
    assert again.returncode == 1
    assert "The service here has data and will not be overwritten" in again.stderr
    assert rows(new)["card"] == before
    assert customers.ask(customers.cards.pop()).status == 200


def test_a_folder_with_something_else_or_an_older_program_is_refused_while_this_server_keeps_serving(
    vendor: Vendor, ssh: SshServer, tmp_path: Path
) -> None:
    started = vendor.stack.inspect("app")["State"]["StartedAt"]
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/file").write_text("something else")
    taken = migrate(vendor.stack, ssh, "--directory", tmp_path / "theirs")
    assert taken.returncode == 1
    assert "is not empty and not a checkout of Kadun" in taken.stderr
    migrations = tmp_path / "older/app/storage/migrations"
    migrations.mkdir(parents=True)
    (migrations / "0000_before.py").touch()
    (tmp_path / "older/scripts").mkdir()
    (tmp_path / "older/scripts/import.sh").touch()
    older = migrate(vendor.stack, ssh, "--directory", tmp_path / "older")
    assert older.returncode == 1
    assert "is older than here" in older.stderr
    assert vendor.stack.inspect("app")["State"]["StartedAt"] == started
