"""From release 1.0 to this version under load, and back: its data, its backups and its customers' program stay good."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support.hosts.backups import members
from tests.support.hosts.servers import ExternalDatabase, Program, ship
from tests.support.hosts.stack import Stack, copy_checkout, run
from tests.support.services.service import ROOT

pytestmark = pytest.mark.xdist_group("machines")  # shares nothing with it: two short ones make a long one

RELEASE = "c63c55c3de1603c05fea889516c98ae89a92b9e9"
# The program opens over and over until its standard input ends; what it prints is what failed, and a last line.
PROGRAM = """
import json, pathlib, select, sys
import kadun
from kadun.retries import RetryPolicy

url, keys, core, card, ca, state = sys.argv[1:]
opened = False
while not opened or not select.select([sys.stdin], [], [], 0.3)[0]:
    try:
        client = kadun.Client(url, pathlib.Path(keys).read_text(), card, hardware="the customer's pc", ca_file=ca,
            state_dir=state, retry_policy=RetryPolicy(tries=20))
        client.open()
        assert client.unseal(core) == b"what the program cannot do without\\n"
        opened = True
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        break
print("opened")
"""


def git(folder: Path, *arguments: str | Path) -> str:
    identity = ("-c", "user.name=vendor", "-c", "user.email=vendor@kadun.test", "-c", "safe.directory=*")
    return run("git", *identity, *arguments, cwd=folder).stdout.strip()


def unpack_release(folder: Path) -> None:
    """Needs a clone with its history."""
    folder.mkdir()
    git(ROOT, "archive", "--output", folder / "release.tar", RELEASE)
    run("tar", "--extract", "--directory", folder, "--file", folder / "release.tar")
    (folder / "release.tar").unlink()


def upstream_in(folder: Path) -> Path:
    upstream = folder / "upstream"
    unpack_release(upstream)
    git(upstream, "init", "--quiet", "--initial-branch=main")
    git(upstream, "add", "--all")
    git(upstream, "commit", "--quiet", "--message", "release 1.0")
    return upstream


def release_this_version(upstream: Path) -> None:
    git(upstream, "rm", "--quiet", "-r", ".")
    copy_checkout(upstream)
    git(upstream, "add", "--all")
    git(upstream, "commit", "--quiet", "--message", "this version")


class Customer:
    """A customer with the program of release 1.0, SDK and keys as they were shipped then."""

    def __init__(self, stack: Stack, program: Program, folder: Path) -> None:
        self._folder, self._sdk = folder, folder / "upstream-1.0/client/src"
        (folder / "keys.json").write_text(program.keys)
        ca = stack.folder / "https_certificates/fullchain.pem"
        url = f"https://127.0.0.1:{stack.https_port}"
        self._arguments = (url, folder / "keys.json", program.core, program.card, ca, folder / "state")

    @contextmanager
    def using_the_program(self) -> Iterator[None]:
        """Open it all the while, without a single failure."""
        command = (sys.executable, "-c", PROGRAM, *map(str, self._arguments))
        environment = {"PYTHONPATH": str(self._sdk), "PATH": "/usr/bin:/bin"}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as it:
            try:
                yield
            finally:
                said, _ = it.communicate("\n", timeout=120)
        assert said == "opened\n"


def test_release_1_0_is_upgraded_and_put_back_and_its_customers_notice_neither(tmp_path: Path) -> None:
    upstream = upstream_in(tmp_path)
    unpack_release(tmp_path / "upstream-1.0")
    with Stack(tmp_path / "server", copy=partial(git, upstream, "clone", "--quiet", upstream)) as stack:
        stack.init_anew("kadun.test")
        stack.up()
        program = ship(stack, tmp_path, "the customer's pc")
        issued = stack.cardctl("card", "issue", "--validity", "30d", "--count", "50", "--format", "json")
        customer = Customer(stack, program, tmp_path)
        with customer.using_the_program():
            stack.script("backup.sh")
        (backup,) = (stack.folder / "data/backups").glob("kadun-2*.tar")
        before = stack.contents()

        release_this_version(upstream)
        with customer.using_the_program():
            refused = stack.script("upgrade.sh", check=False)  # the release's own
            assert "Nothing was changed; the old version goes on serving" in refused.stderr
            git(stack.folder, "pull", "--quiet", "--ff-only")
            upgraded = stack.script("upgrade.sh", "--no-pull")
        assert "Upgraded" in upgraded.stdout
        assert rows(stack.contents(), "card") == rows(before, "card") == len(issued) + 1
        with customer.using_the_program():
            for _ in range(2):  # the keys that it was shipped with are past then
                stack.script("cardctl", "key", "rotate", "--force")
        assert "holds no signing keys (version 1.0)" in stack.script("restore.sh", backup).stdout
        with customer.using_the_program():
            pass

        (safety,) = (stack.folder / "data/backups").glob("kadun-before-upgrade-*.age")
        opened = ("age", "--decrypt", "--identity", stack.folder / "secrets/backup_identity", safety)
        plain = subprocess.run(opened, capture_output=True, check=True).stdout
        (tmp_path / "before.dump").write_bytes(members(plain)["database.dump"])
        git(stack.folder, "reset", "--quiet", "--keep", "HEAD~1")
        run("docker", "tag", f"{stack.project}-app:previous", f"{stack.project}-app")
        stack.up("database")
        stack.script("restore.sh", tmp_path / "before.dump")
        stack.up()
        assert stack.contents().splitlines()[0] == before.splitlines()[0], "the schema"
        with customer.using_the_program():
            pass


@pytest.mark.nightly
def test_release_1_0_with_an_external_database_is_upgraded_and_a_failure_puts_its_settings_back(tmp_path: Path) -> None:
    upstream, server = upstream_in(tmp_path), ExternalDatabase()
    try:
        server.start()
        with Stack(tmp_path / "server", copy=partial(git, upstream, "clone", "--quiet", upstream)) as stack:
            ports = ("--http-port", str(stack.http_port), "--https-port", str(stack.https_port))
            host = ("--database-host", f"127.0.0.1:{server.port}")
            stack.init("--project", stack.project, "--domain", "kadun.test", *ports, *host)
            server.administer(run(stack.folder / "scripts/database-roles.sh").stdout)
            stack.up()
            program, settings = ship(stack, tmp_path, "the customer's pc"), (stack.folder / ".env").read_text()
            assert "docker-compose.external-database.yml" in settings

            release_this_version(upstream)
            assert stack.script("upgrade.sh", check=False).returncode == 1  # the release's own
            assert (stack.folder / ".env").read_text() == settings
            git(stack.folder, "pull", "--quiet", "--ff-only")
            dockerfile = (stack.folder / "Dockerfile").read_text()
            (stack.folder / "Dockerfile").write_text("FROM nowhere.invalid/kadun\n")
            refused = stack.script("upgrade.sh", "--no-pull", check=False)
            assert "Nothing was changed; the old version goes on serving" in refused.stderr
            assert (stack.folder / ".env").read_text() == settings
            (stack.folder / "Dockerfile").write_text(dockerfile)
            stack.script("upgrade.sh", "--no-pull")
            assert (
                "COMPOSE_FILE=docker-compose.yml:deploy/external-database.yml\n" in (stack.folder / ".env").read_text()
            )
            assert program.open_on(stack)["core"]
    finally:
        server.remove()


def rows(contents: str, table: str) -> int:
    (found,) = re.findall(rf"^table {table} (\d+)", contents, re.MULTILINE)
    return int(found)
