"""A customer's program; a git clone that serves and fresh servers like it; a PostgreSQL that is not the stack's own."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import kadun
import pytest

from tests.support.hosts.stack import Stack, run
from tests.support.services.functions_service import write_wheel
from tests.support.services.http_exchange import quiet_port
from tests.support.services.service import wait_for

CORE_DATA = b"what the program cannot do without\n"
LICENSED_FILE, LICENSED = "带空格 licensed.bin", b"bytes that only customers get\n" * 100
FUNCTION = """
import tiny
from app.functions import core_function


@core_function("版本")
def version(arguments, caller):
    return tiny.VERSION
"""
# The first two with characters that tools take for their own; the others for as many requests as a test sends.
SETTINGS = """
KADUN_ISSUER=迁移&co \\1
KADUN_OFFLINE_GRACE=12h
KADUN_RATE=10000
KADUN_BURST=10000
"""


@dataclass(frozen=True)
class Program:
    """A customer's program: public keys and sealed data as shipped, and a card."""

    keys: str
    core: Path
    card: str
    hardware: str

    def client_of(self, stack: Stack, **options: Any) -> kadun.Client:
        """Return its SDK client for a stack, whose certificate it trusts."""
        return kadun.Client(
            f"https://127.0.0.1:{stack.https_port}", self.keys, self.card, hardware=self.hardware,
            ca_file=stack.folder / "https_certificates/fullchain.pem", **options,
        )  # fmt: skip

    def open_on(self, stack: Stack) -> dict[str, Any]:
        """Open the program with a stack; return the verdict's facts and the decrypted data."""
        client = self.client_of(stack)
        verdict = client.open()
        facts = {"activated": verdict.activated, "expires_at": verdict.card_expires_at}
        return facts | {"core": client.unseal(self.core)}


def ship(stack: Stack, folder: Path, hardware: str, *options: str) -> Program:
    """Ship a program from this stack, with a new card for one customer; `options` may be `--program ID`."""
    (folder / "core").write_bytes(CORE_DATA)
    core = folder / "-".join(("core.age", *options))
    stack.seal(folder / "core", core, *options)
    return Program(json.dumps(stack.cardctl("key", "export", *options)), core, stack.new_card(*options), hardware)


class Vendor:
    """A vendor's server, a clone of the repository upstream that it is upgraded from, and programs shipped from it."""

    program: Program
    second: Program
    """Of another of the vendor's programs."""

    def __init__(self, stack: Stack, upstream: Path) -> None:
        self.stack, self.upstream = stack, upstream
        shutil.copytree(stack.folder, upstream, symlinks=True)
        self._git(upstream, "init", "--quiet", "--initial-branch=main")
        self.release("first")
        self._git(upstream, "clone", "--quiet", upstream, upstream.parent / "clone")
        (upstream.parent / "clone/.git").rename(stack.folder / ".git")

    @staticmethod
    def _git(folder: Path, *arguments: str | Path) -> str:
        identity = ("-c", "user.name=vendor", "-c", "user.email=vendor@kadun.test", "-c", "safe.directory=*")
        return run("git", *identity, *arguments, cwd=folder).stdout.strip()

    def release(self, name: str, files: dict[str, str] | None = None) -> str:
        for path, content in (files or {}).items():
            (self.upstream / path).write_text(content)
        self._git(self.upstream, "add", "--all")
        self._git(self.upstream, "commit", "--quiet", "--allow-empty", "--message", name)
        return self._git(self.upstream, "rev-parse", "HEAD")

    def newest_migration(self) -> str:
        return max(path.stem for path in (self.stack.folder / "app/storage/migrations").glob("[0-9]*.sql"))

    def next_migration(self) -> str:
        return f"app/storage/migrations/{int(self.newest_migration()[:4]) + 1:04d}_more.sql"

    def withdraw(self) -> None:
        self._git(self.upstream, "reset", "--hard", "--quiet", "HEAD~1")

    def commit(self) -> str:
        """Return where the stack's clone stands, its files included."""
        assert self._git(self.stack.folder, "status", "--porcelain", "--untracked-files=no") == ""
        return self._git(self.stack.folder, "rev-parse", "HEAD")

    def image(self) -> str:
        """Return the image that the app's container runs, which is also what its name stands for."""
        image = str(self.stack.inspect("app")["Image"])
        named = run("docker", "image", "inspect", "--format", "{{.Id}}", f"{self.stack.project}-app").stdout.strip()
        assert named == image
        return image

    def backups(self) -> set[Path]:
        return set((self.stack.folder / "data/backups").glob("*"))

    def fresh_server(self, folder: Path) -> Stack:
        """Return a server with the vendor's present code, on which nothing ran yet."""
        stack = Stack(folder, self.image())
        run("docker", "tag", self.image(), f"{stack.project}-app")  # what a build there would come to
        for name in self._git(self.stack.folder, "ls-files", "-z").split("\0")[:-1]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.stack.folder / name, folder / name)
        return stack


class ExternalDatabase:
    """A PostgreSQL that nobody prepared for Kadun, as a distribution sets it up: on 127.0.0.1, roles by password."""

    def __init__(self) -> None:
        self.name, self.port = f"kadun-test-server-{uuid4().hex[:8]}", quiet_port()

    def start(self) -> None:
        settings = ("--env", "POSTGRES_PASSWORD=administrator", "--publish", f"127.0.0.1:{self.port}:5432")
        run("docker", "run", "--detach", "--name", self.name, *settings, "postgres:17-trixie")
        ready = ("docker", "exec", self.name, "pg_isready", "--quiet", "--host=127.0.0.1")
        wait_for(lambda: run(*ready, check=False).returncode == 0, 60)

    def administer(self, sql: str, user: str = "postgres") -> str:
        """Return what psql prints, unadorned, errors and notices included."""
        psql = ("psql", "-U", user, "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-d", "postgres")
        done = run("docker", "exec", "-i", self.name, *psql, input=sql)
        return done.stdout + done.stderr

    def remove(self) -> None:
        run("docker", "rm", "--force", "--volumes", self.name, check=False)


def _furnish(vendor: Vendor, folder: Path) -> None:
    """Give the server what a server in use has: cards, a licensed file, a function with a requirement, hooks."""
    stack = vendor.stack
    cards = "SELECT upper(md5(random()::text)), interval '30 days', 'first', now() FROM generate_series(1, 2000)"
    stack.sql("owner", f"INSERT INTO card (id, validity, batch, created_at) {cards}")
    (folder / "licensed").write_bytes(LICENSED)
    stack.script("cardctl", "file", "add", "--name", LICENSED_FILE, folder / "licensed")
    (stack.folder / "data/files/.adding-now").write_bytes(b"half a file")
    functions = stack.folder / "data/functions"
    (functions / "vendor.py").write_text(FUNCTION)
    (functions / "requirements.txt").write_text(f"./{write_wheel(functions, '1.0').name}\n")
    stack.script("cardctl", "function", "install")
    certificates = stack.folder / "https_certificates"
    shutil.copy(certificates / "privkey.pem", certificates / "self-signed-privkey.pem")
    # What the host runs and what nginx reads: no bundle may bring such files.
    hook = stack.folder / "data/backup-hooks.d/10-copy"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    (certificates / "hsts.conf").write_text('add_header Strict-Transport-Security "max-age=1";\n')
    vendor.program = ship(stack, folder, "the customer's pc")
    stack.script("cardctl", "program", "add", "b", "--name", "Quotes")
    vendor.second = ship(stack, folder, vendor.program.hardware, "--program", "b")
    for program in (vendor.program, vendor.second):
        program.open_on(stack)


@pytest.fixture(scope="session")
def vendor(tmp_path_factory: pytest.TempPathFactory, app_image: str) -> Iterator[Vendor]:
    """The vendor's server. A test may upgrade it; it leaves it serving."""
    folder = tmp_path_factory.mktemp("vendor")
    stack = Stack(folder / "old", app_image)
    try:
        vendor = Vendor(stack, folder / "upstream")
        stack.init_anew("kadun.test")
        with (stack.folder / ".env").open("a") as settings:
            settings.write(SETTINGS)
        stack.up()
        _furnish(vendor, folder)
        yield vendor
    finally:
        run("docker", "image", "rm", "--force", f"{stack.project}-app:previous", check=False)
        stack.remove()
