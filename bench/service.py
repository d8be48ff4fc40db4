"""What a service needs to start, on this machine and for one measurement: a folder, a database with cards, keys."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import pyrage

from app.tokens.key_folder import KeyFolder
from bench.cards import CardTable, noon_zone
from bench.errors import BenchError
from bench.gunicorn import Gunicorn
from trial.binaries import install_binaries
from trial.environment import CHECKOUT, Trial, write_secret
from trial.errors import tail
from trial.postgres import EmbeddedPostgres
from trial.stopping import Stopping

FOLDER = "/var/tmp"  # noqa: S108  # on the disk, where PostgreSQL's account gets to; mkdtemp makes a folder in it


def compose_settings() -> dict[str, str]:
    """Return PostgreSQL's settings as docker-compose.yml gives them to the real stack, where .env says no other."""
    compose = (CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8")
    return dict(re.findall(r'-c, "?(\w+)=(?:\$\{\w+:-)?(\w+)', compose))


@contextmanager
def own_folder(stopping: Stopping) -> Iterator[Path]:
    """A folder for all that is made; PostgreSQL's account gets through it. Gone afterwards."""
    with ExitStack() as stack:
        with stopping.deferred():
            folder = Path(tempfile.mkdtemp(prefix="kadun-bench-", dir=FOLDER))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            folder.chmod(0o711)
        yield folder


def make_secrets(folder: Path) -> None:
    """Make what the service does not make by itself where cards are in use: the data key and the signing keys."""
    write_secret(folder / "kernal_data_key", str(pyrage.x25519.Identity.generate()))
    KeyFolder(folder / "keys").create(datetime.now(UTC), "kadun")


def environ(folder: Path, database_url: str, zone: str) -> dict[str, str]:
    """Return the settings of a service that keeps all it has in `folder`."""
    return {
        "DATABASE_URL": database_url,
        "KERNAL_DATA_KEY_FILE": str(folder / "kernal_data_key"),
        "KADUN_KEYS_DIR": str(folder / "keys"),
        "KADUN_FILES_DIR": str(folder / "files"),
        "KADUN_FUNCTIONS_SOCKET": str(folder / "functions.sock"),
        "KADUN_TIMEZONE": zone,
        "PROMETHEUS_MULTIPROC_DIR": tempfile.mkdtemp(prefix="metrics-", dir=folder),
    }


@dataclass(frozen=True)
class Host:
    """A folder with all that a service needs, and the cards that it knows."""

    folder: Path
    binaries: Path
    postgres: EmbeddedPostgres
    table: CardTable
    environ: dict[str, str]

    @contextmanager
    def service(self, socket: Path | None = None, **settings: str) -> Iterator[Gunicorn]:
        """The service, ready; on a free port of 127.0.0.1, or on `socket`."""
        log = self.folder / "service.log"
        with running(Gunicorn("app.wsgi:app", self.environ | settings, log, socket=socket), "/readyz") as service:
            yield service

    def cardctl(self, *arguments: str, source: IO[bytes] | None = None) -> str:
        """Return what a command of the operator's printed; `source` is its standard input.

        Raises:
            BenchError: it failed.
        """
        done = subprocess.run(
            [sys.executable, "-P", "-m", "app", *arguments],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)} | self.environ,
            stdin=subprocess.DEVNULL if source is None else source,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"{' '.join(arguments[:2])} failed: {tail(done.stderr, lines=1)}")
        return done.stdout

    def add_operator(self, name: str, password: str) -> None:
        """Add an owner of the console."""
        with tempfile.TemporaryFile() as typed:
            typed.write(f"{password}\n".encode())
            typed.seek(0)
            self.cardctl("admin", "add", name, source=typed)

    def add_file(self, mib: int) -> str:
        """Add a licensed file of so many MiB; return its SHA-256."""
        with tempfile.TemporaryFile(dir=self.folder) as source:
            for _ in range(mib):
                source.write(bytes(2**20))
            source.seek(0)
            self.cardctl("file", "add", "-", "--name", "core.bin", source=source)
        return next(path.name for path in (self.folder / "files").iterdir())


@contextmanager
def running(service: Gunicorn, path: str) -> Iterator[Gunicorn]:
    """A service, once it answers `path` with success; it ends with the block."""
    try:
        service.wait_for(path)
        yield service
    finally:
        service.stop()


@contextmanager
def host(
    stopping: Stopping, *, cards: int, is_bound: bool, fill: Callable[[CardTable], None] = CardTable.fill
) -> Iterator[Host]:
    """A machine's worth: PostgreSQL as the stack has it, so many cards (by `fill`), keys; all gone afterwards."""
    binaries = Trial.from_environ(os.environ, uid=os.geteuid()).binaries
    install_binaries(binaries)
    zone = noon_zone(datetime.now(UTC))
    with own_folder(stopping) as folder, ExitStack() as stack:
        make_secrets(folder)
        postgres = EmbeddedPostgres(binaries, folder / "cluster", settings=compose_settings())
        stack.callback(postgres.stop)
        with stopping.deferred():
            postgres.start()
        postgres.create_database("cards")
        table = CardTable(postgres.url("cards"), cards, datetime.now(zone).date(), is_bound=is_bound)
        fill(table)
        yield Host(folder, binaries, postgres, table, environ(folder, table.url, zone.key))
