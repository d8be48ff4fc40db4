"""scripts/migrate-to.sh over a real sshd, into another folder of this machine, loses nothing and overwrites nothing."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts.moving import CORE_DATA
from tests.support.hosts.servers import LICENSED, LICENSED_FILE, Vendor
from tests.support.hosts.ssh import SshServer, ssh_server
from tests.support.hosts.stack import Stack, run
from tests.support.licence.customers import Customers
from tests.support.services.bucket_host import Front
from tests.support.services.http_exchange import quiet_port
from tests.support.services.service import ROOT, wait_for

pytestmark = pytest.mark.xdist_group("servers")

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
# A stand-in for ssh. It kills the process group of the script before or after the command that contains this word.
FATAL = """#!/bin/bash
[[ "$*" == *{word}* && ! -e {folder}/done ]] || exec {ssh} "$@"
touch {folder}/done
{before}kill -{number} -- -$(ps -o pgid= $PPID | tr -d ' ')
{ssh} "$@"
{after}kill -{number} -- -$(ps -o pgid= $PPID | tr -d ' ')
"""


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def new(vendor: Vendor, tmp_path: Path) -> Iterator[Stack]:
    """A server whose folder is not there yet."""
    stack = Stack(tmp_path / "not yet there", copy=lambda _folder: None)
    yield stack
    vendor.stack.script("migrate-to.sh", "--resume-here")
    stack.remove()


def command(old: Stack, ssh: SshServer, new: Stack) -> list[str | Path]:
    ports = ("--http-port", str(new.http_port), "--https-port", str(new.https_port))
    options = (*ssh.options(), "--directory", str(new.folder), "--project", new.project, *ports)
    return [old.folder / "scripts/migrate-to.sh", "root@127.0.0.1", *options]


def serves(stack: Stack) -> bool:
    return stack.script("cardctl", "healthcheck", check=False).returncode == 0


def files(stack: Stack) -> dict[str, str]:
    """Return the owners, modes and sizes of what an installation has made, by name."""
    found = {}
    for name in ("secrets", "https_certificates", "data/keys", "data/files", "data/functions", "data/backup-hooks.d"):
        for path in (stack.folder / name, *(stack.folder / name).rglob("*")):
            status = path.lstat()
            size = 0 if path.is_dir() else status.st_size
            found[str(path.relative_to(stack.folder))] = f"{status.st_uid} {stat.filemode(status.st_mode)} {size}"
    return found


def test_a_move_is_whole_no_customer_notices_it_and_nothing_is_overwritten(
    vendor: Vendor, ssh: SshServer, new: Stack, tmp_path: Path
) -> None:
    old, customers, first = vendor.stack, Customers(vendor.stack), vendor.program.open_on(vendor.stack)
    move = command(old, ssh, new)
    with customers:
        customers.wait_for_more(3)
        moved = run(*move, check=False)
        assert moved.returncode == 0, moved.stderr
        asked = len(customers.statuses)
        wait_for(lambda: len(customers.statuses) > asked + 3 or customers.failures)
    assert customers.failures == [], "503 with Retry-After"
    assert set(customers.statuses) == {200, 503}
    assert set(customers.statuses[-3:]) == {503}, "the old server answers 503"
    assert "Moved; customers waited " in moved.stdout
    assert "Point the DNS records (A, AAAA) of kadun.test at the new server" in moved.stdout
    arrived = set(new.sql("backup", "SELECT id FROM card WHERE is_activated").split())
    assert set(customers.acknowledged) <= arrived
    ours, theirs = files(old), files(new)
    assert ours.pop("data/keys/moved-to")
    assert theirs == ours
    assert (old.folder / "data/.project").exists()
    assert not (new.folder / "data/.project").exists()
    ours, theirs = (dict(line.split("=", 1) for line in (one.folder / ".env").read_text().splitlines() if "=" in line)
                    for one in (old, new))  # fmt: skip
    changed = {"COMPOSE_PROJECT_NAME", "KADUN_HTTP_PORT", "KADUN_HTTPS_PORT", "KADUN_APP_IMAGE"}
    assert {name for name in ours if ours[name] != theirs[name]} == changed
    assert (
        "If the move was cut off, run the same scripts/migrate-to.sh again"
        in old.script("backup.sh", check=False).stderr
    )
    assert old.compose("up", "--detach", "--wait", check=False).returncode != 0
    assert open_while_moving(vendor, new, tmp_path / "hosts") == "opened False"
    assert vendor.program.open_on(new) == first | {"activated": False}
    assert first["core"] == CORE_DATA
    client = vendor.program.client_of(new)
    client.download(LICENSED_FILE, tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == LICENSED
    assert client.execute("版本", {}) == "1.0"
    cards = {new.new_card()}
    assert run(*move).stdout.startswith("搬迁完成"), "the same command finds that all is done"
    assert "This server serves again" in old.script("migrate-to.sh", "--resume-here").stdout
    refused = run(*move, check=False)
    assert (refused.returncode, "A service is there already and will not be overwritten" in refused.stderr) == (1, True)
    assert cards < set(new.sql("backup", "SELECT id FROM card").split())
    assert customers.ask(customers.cards.pop()).status == 200


def open_while_moving(vendor: Vendor, new: Stack, hosts: Path) -> str:
    """Open a program while its name still leads to the old server, and then change the name; return what it says."""
    old, program, port = vendor.stack, vendor.program, quiet_port()
    ca = str(old.folder / "https_certificates/fullchain.pem")
    facts = (f"https://kadun.test:{port}", program.keys, program.card, program.hardware, ca)
    hosts.write_text("127.0.0.1 kadun.test\n")
    with Front(old.https_port, port=port), Front(new.https_port, port=port, listen_on="127.0.0.2"):
        # With a hosts file of its own, which stands for the DNS record.
        bind = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts)
        opening = subprocess.Popen(
            (*bind, sys.executable, "-c", PROGRAM, *facts),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT / "client/src")},
        )  # fmt: skip
        assert opening.stdout
        assert opening.stdout.readline() == "waits\n", "the old server answers 503"
        hosts.write_text("127.0.0.2 kadun.test\n")
        said, errors = opening.communicate(timeout=120)
        assert opening.returncode == 0, errors
        return said.splitlines()[-1]


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("word", "ends", "number", "serving"),
    [
        ("require_database", "before", signal.SIGKILL, "neither"),
        ("serve_again", "after", signal.SIGKILL, "new"),
        ("serve_again", "before", signal.SIGINT, "old"),
    ],
)
def test_an_interrupted_move_never_leaves_two_servers_and_the_same_command_goes_on(
    vendor: Vendor, ssh: SshServer, new: Stack, tmp_path: Path, word: str, ends: str, number: int, serving: str
) -> None:
    old, move, program = vendor.stack, command(vendor.stack, ssh, new), shutil.which("ssh")
    facts = {"before": "# ", "after": "# "} | {ends: ""}
    (tmp_path / "ssh").write_text(FATAL.format(word=word, folder=tmp_path, ssh=program, number=int(number), **facts))
    (tmp_path / "ssh").chmod(0o755)
    with (tmp_path / "log").open("w") as log:  # a file: ssh's own child keeps what it was given open for a while
        path = f"{tmp_path}:{os.environ['PATH']}"
        moving = subprocess.Popen(move, stdout=log, stderr=log, start_new_session=True, env=os.environ | {"PATH": path})
    status, said = moving.wait(120), (tmp_path / "log").read_text()
    assert (tmp_path / "done").exists(), said
    assert (serves(old), serves(new)) == (serving == "old", serving == "new"), said
    if serving == "old":
        assert (status, "The move failed; this server serves again" in said) == (130, True)
    else:
        told = f"The service moved to root@127.0.0.1:{new.folder} at "
        assert old.compose("up", "--detach", "--wait", check=False).returncode != 0
        assert told in old.compose("logs", "migrate").stdout
        assert told in old.script("cardctl", "doctor", check=False).stdout
    if serving == "neither":
        assert new.compose("up", "--detach", "--wait", check=False).returncode != 0
        assert "This is an unfinished copy from " in new.compose("logs", "migrate").stdout
        assert "This is an unfinished copy from " in new.script("migrate-to.sh", "--resume-here", check=False).stderr
    assert run(*move).stdout.splitlines()[-1].endswith("--resume-here")
    assert (serves(old), serves(new)) == (False, True)
