"""The whole service on another server: by a bundle, by scripts/migrate-to.sh over a real sshd, and from the trial."""
# Owns run-move.

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import kadun
import pyrage
import pytest

from tests.support.hosts.backups import standing_in
from tests.support.hosts.network import SshServer, ssh_server
from tests.support.hosts.servers import CORE_DATA, LICENSED, LICENSED_FILE, Program, Vendor
from tests.support.hosts.stack import Stack, run
from tests.support.licence.customers import Customers
from tests.support.services.http_exchange import quiet_port
from tests.support.services.relays import Front
from tests.support.services.service import ROOT, wait_for
from tests.support.services.trial_runner import TrialRun

pytestmark = pytest.mark.xdist_group("servers")

PASSPHRASE = "correct horse battery"  # as typed
OWN_SECRETS = ("db_password", "owner_url", "backup_url", "database_url")
OTHER_SECRETS = ("kernal_data_key", "sealing_key", "keys_identity", "backup_identity")
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
# In ssh's place: the process group of the script is killed before or after what ssh is told to do.
FATAL = """
[[ ! -e {folder}/done ]] || {{ really "$@"; exit; }}
touch {folder}/done
{before}kill -{number} -- -$(ps -o pgid= $PPID | tr -d ' ')
really "$@"
{after}kill -{number} -- -$(ps -o pgid= $PPID | tr -d ' ')
"""


class Arrived(NamedTuple):
    """The new server, and what the vendor's server held when the bundle was made."""

    new: Stack
    cards: str
    journal: str


def type_at(command: list[str | Path], *answers: str) -> None:
    """Run a command on a terminal of its own and type an answer at each prompt for a passphrase."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir("/")
        os.execv(command[0], [str(word) for word in command])  # noqa: S606  # no shell is wanted
    shown = fresh = ""
    waiting = list(answers)
    with contextlib.suppress(OSError):  # EIO: the last one on the other side has gone
        while chunk := os.read(terminal, 4096).decode(errors="replace"):
            shown += chunk
            fresh += chunk
            if waiting and re.search(r"passphrase[^\n]*: *$", fresh):
                os.write(terminal, f"{waiting.pop(0)}\n".encode())
                fresh = ""
    os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0, shown


def rows(stack: Stack, table: str) -> str:
    return stack.sql("backup", f"SELECT * FROM {table} ORDER BY 1")  # noqa: S608


def ports(stack: Stack) -> tuple[str, ...]:
    return ("--project", stack.project, "--http-port", str(stack.http_port), "--https-port", str(stack.https_port))


@pytest.fixture(scope="module")
def arrived(vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arrived]:
    """Restore in two attempts, of which the first is killed once it has placed the secrets."""
    old, folder = vendor.stack, tmp_path_factory.mktemp("arrived")
    new, bundle = vendor.fresh_server(folder / "new"), folder / "-the shop's 迁移 $(bundle).tar.age"
    vendor.program.open_on(old)
    restore: list[str | Path] = [new.folder / "scripts/restore.sh", "--new-server", *ports(new)]
    try:
        type_at([old.folder / "scripts/backup.sh", "--bundle", "-o", bundle, "--passphrase"], PASSPHRASE, PASSPHRASE)
        arrived = Arrived(new, rows(old, "card"), rows(old, "event"))
        plain = folder / "plain.tar"
        plain.write_bytes(pyrage.passphrase.decrypt(bundle.read_bytes(), PASSPHRASE))
        refused = run(*restore, plain, check=False)
        assert refused.returncode == 1
        assert "nothing shows who made it. Restore it?" in refused.stderr, "a file in clear is asked about"
        assert not (new.folder / ".env").exists()
        expected, key = ((one.folder / "secrets/kernal_data_key") for one in (old, new))
        first = subprocess.Popen([*restore, "--yes", plain], stdout=subprocess.DEVNULL, start_new_session=True)
        placed = lambda: key.exists() and key.read_bytes() == expected.read_bytes()  # noqa: E731
        wait_for(lambda: placed() or first.poll() is not None, 120)
        os.killpg(first.pid, signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL, "it has placed the secrets, and goes on"
        type_at([*restore, "--yes", bundle], PASSPHRASE)
        yield arrived
    finally:
        new.remove()


def works_as_before(vendor: Vendor, new: Stack, folder: Path) -> None:
    """Assert that a server gives the vendor's program what it got before."""
    assert [program.open_on(new)["core"] for program in (vendor.program, vendor.second)] == [CORE_DATA] * 2
    client = vendor.program.client_of(new)
    client.download(LICENSED_FILE, folder / "here")
    assert (folder / "here").read_bytes() == LICENSED
    assert client.execute("版本", {}) == "1.0", "what it requires was installed anew"


def test_a_bundle_brings_every_row_key_and_file_and_leaves_passwords_and_settings_of_the_machine(
    vendor: Vendor, arrived: Arrived, tmp_path: Path
) -> None:
    old, new = vendor.stack.folder, arrived.new.folder
    assert rows(arrived.new, "card") == arrived.cards
    assert rows(arrived.new, "event").startswith(arrived.journal)
    for name in OWN_SECRETS:
        assert (new / "secrets" / name).read_bytes() != (old / "secrets" / name).read_bytes()
    own = "COMPOSE_PROJECT_NAME|KADUN_HTTPS?_PORT|KADUN_APP_IMAGE|KADUN_FUNCTION_FIRST_UID|KADUN_HOST|#"
    taken = [
        {line for line in (folder / ".env").read_text().splitlines() if line and not re.match(own, line)}
        for folder in (old, new)
    ]
    assert taken[0] == taken[1]
    for line in (f"COMPOSE_PROJECT_NAME={arrived.new.project}", f"KADUN_HTTPS_PORT={arrived.new.https_port}"):
        assert f"\n{line}\n" in (new / ".env").read_text()
    assert (old / "data/backup-hooks.d").exists()
    assert not (new / "data/backup-hooks.d").exists()
    secrets = [f"secrets/{name}" for name in OTHER_SECRETS]
    for name in (*secrets, "data/keys/keyring.json", "https_certificates/privkey.pem"):
        assert (new / name).read_bytes() == (old / name).read_bytes(), name
        assert (new / name).stat().st_uid == (old / name).stat().st_uid, name
        assert stat.S_IMODE((new / name).stat().st_mode) == 0o600, name
    uid = (new / "data/keys").stat().st_uid
    for path in (new / "data/files", *(new / "data/files").iterdir()):
        assert (path.stat().st_uid, path.stat().st_mode & 0o044) == (uid, 0o044), "nginx is another user"
    kept = {file.read_bytes() for file in (new / "data").glob(".replaced-*/secrets/kernal_data_key")}
    assert len(kept) == 2, "the key that this server had made for itself, and the one of the killed run"
    works_as_before(vendor, arrived.new, tmp_path)
    arrived.new.script("cardctl", "file", "add", "--name", "another.bin", tmp_path / "here")


def test_a_service_with_data_is_never_overwritten(vendor: Vendor, arrived: Arrived, tmp_path: Path) -> None:
    arrived.new.new_card()
    arrived.new.compose("stop", "app")
    before = rows(arrived.new, "card")
    vendor.stack.script("backup.sh", "--bundle", "-o", tmp_path / "bundle.tar.age")
    again = arrived.new.script("restore.sh", "--new-server", tmp_path / "bundle.tar.age", check=False)
    assert (again.returncode, arrived.new.inspect("app")["State"]["Status"]) == (1, "exited"), again.stdout
    assert "The service here has data and will not be overwritten" in again.stderr
    assert rows(arrived.new, "card") == before


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
    options = (*ssh.options(), "--directory", str(new.folder), *ports(new))
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
    assert "Point the DNS records (A, AAAA) of kadun.test at the new server" in moved.stdout
    arrived = set(new.sql("backup", "SELECT id FROM card WHERE is_activated").split())
    assert set(customers.acknowledged) <= arrived
    ours, theirs = files(old), files(new)
    assert ours.pop("data/keys/moved-to")
    assert theirs == ours
    assert not (new.folder / "data/.project").exists()
    ours, theirs = (dict(line.split("=", 1) for line in (one.folder / ".env").read_text().splitlines() if "=" in line)
                    for one in (old, new))  # fmt: skip
    changed = {"COMPOSE_PROJECT_NAME", "KADUN_HTTP_PORT", "KADUN_HTTPS_PORT", "KADUN_APP_IMAGE"}
    assert {name for name in ours if ours[name] != theirs[name]} == changed
    advice = "If the move was cut off, run the same scripts/migrate-to.sh again"
    assert advice in old.script("backup.sh", check=False).stderr
    assert old.compose("up", "--detach", "--wait", check=False).returncode != 0
    assert open_while_moving(vendor, new, tmp_path / "hosts") == "opened False"
    assert vendor.program.open_on(new) == first | {"activated": False}
    works_as_before(vendor, new, tmp_path)
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
    old, move = vendor.stack, command(vendor.stack, ssh, new)
    facts = {"before": "# ", "after": "# "} | {ends: ""}
    path = standing_in(tmp_path, "ssh", f"*{word}*", FATAL.format(folder=tmp_path, number=int(number), **facts))
    with (tmp_path / "log").open("w") as log:  # a file: ssh's own child keeps what it was given open for a while
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
    if serving == "neither":
        assert new.compose("up", "--detach", "--wait", check=False).returncode != 0
        assert "This is an unfinished copy from " in new.compose("logs", "migrate").stdout
        assert "This is an unfinished copy from " in new.script("migrate-to.sh", "--resume-here", check=False).stderr
    assert run(*move).stdout.splitlines()[-1].endswith("--resume-here")
    assert (serves(old), serves(new)) == (False, True)


@pytest.mark.nightly
def test_keys_and_cards_of_a_trial_go_on_in_the_real_stack(tmp_path: Path, app_image: str) -> None:
    """By the four commands of docs/backups.md."""
    # Where the account that runs a trial's PostgreSQL gets through.
    folder, stack = Path(tempfile.mkdtemp(prefix="kadun-test-", dir="/var/tmp")), Stack(tmp_path / "real", app_image)
    run("docker", "tag", app_image, f"{stack.project}-app")
    folder.chmod(0o711)
    guide = (ROOT / "docs/backups.md").read_text().partition("### From the trial into the real service")[2]
    commands = re.findall("^    (.*?)(?:  +#.*)?$", guide.partition("\n##")[0], re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["scripts/cardctl", "cp", "chown", "scripts/cardctl"]
    commands = [command.replace(".trial", str(folder / "state")) for command in commands]
    try:
        with TrialRun(folder, root=ROOT) as trial:
            program, first = open_on_trial(trial, folder)
            unused = json.loads(trial.cardctl("card", "issue", "--validity", "7d", "--format", "json").stdout)
            (stack.folder / "cards.csv").write_text(trial.cardctl("card", "export").stdout)
        stack.init_anew("kadun.test")
        for command in commands[1:3]:
            subprocess.run(("bash", "-c", command), cwd=stack.folder, check=True)
        stack.up()
        subprocess.run(("bash", "-c", commands[3]), cwd=stack.folder, env=stack.environment, check=True)
        assert program.open_on(stack) == first | {"activated": False}
        assert Program(program.keys, program.core, unused[0]["id"], "a new customer").open_on(stack)["activated"]
    finally:
        stack.remove()
        shutil.rmtree(folder)


def open_on_trial(trial: TrialRun, folder: Path) -> tuple[Program, dict[str, object]]:
    keys = trial.cardctl("key", "export").stdout
    (folder / "core").write_bytes(CORE_DATA)
    assert trial.cardctl("seal", str(folder / "core"), "-o", str(folder / "core.age")).returncode == 0
    (issued,) = json.loads(
        trial.cardctl("card", "issue", "--validity", "30d", "--note", r"客户\t'; --", "--format", "json").stdout
    )
    client = kadun.Client(trial.url, public_keys=keys, card_id=issued["id"], hardware="the customer's pc")
    verdict = client.open()
    assert verdict.activated
    core = client.unseal(folder / "core.age")
    assert core == CORE_DATA
    program = Program(keys, folder / "core.age", issued["id"], "the customer's pc")
    return program, {"activated": True, "expires_at": verdict.card_expires_at, "core": core}
