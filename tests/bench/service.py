"""What a service needs to start, on this machine and for one measurement: a database, keys, gunicorn."""

import contextlib
import http
import http.client
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pyrage

from app.tokens.key_folder import KeyFolder
from tests.bench import BenchError
from tests.bench.cards import CardTable, noon_zone
from tests.bench.load import connect
from trial.environment import CHECKOUT, LOOPBACK, Trial, write_secret
from trial.postgres import EmbeddedPostgres, free_port, install_binaries
from trial.programs import Child, tail

WORKERS = 2
THREADS = 8
CONNECTIONS = WORKERS * THREADS
"""So many requests are under way at once, unless a figure says otherwise."""
_READY_SECONDS = 60
_POLL_SECONDS = 0.1


class Code(NamedTuple):
    """A checkout whose service is measured, and the Python that runs it."""

    name: str
    folder: Path
    python: str


THIS = Code("this checkout", CHECKOUT, sys.executable)


class Gunicorn:
    """One service, started as in production, on a free port of 127.0.0.1 or on a unix socket.

    Args:
        environ: Its settings.
        log: What it writes.
        command: What Python runs.
        code: Whose application.
        socket: Where it listens instead of a port; then `url` is nothing to ask.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        log: Path,
        command: Sequence[str] = ("-m", "gunicorn", "--config", "python:app.gunicorn_conf", "app.wsgi:app"),
        code: Code = THIS,
        socket: Path | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._log = log
        settings = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{code.folder}:{Path(__file__).parent / 'routes'}",
            "KADUN_BIND": f"unix:{socket}" if socket else f"{LOOPBACK}:{self.port}",
            "KADUN_WORKERS": str(WORKERS),
            "KADUN_THREADS": str(THREADS),
        }
        self._child = Child(
            [code.python, "-P", *command], settings | dict(environ), log, signal.SIGTERM, cwd=code.folder
        )
        self._child.start()

    @property
    def pid(self) -> int:
        """The number of its master process."""
        if self._child.pid is None:
            raise BenchError(f"a service has ended: {tail(self._log.read_text(errors='replace'), lines=1)}")
        return self._child.pid

    @contextmanager
    def running(self, path: str = "/readyz") -> Iterator["Gunicorn"]:
        """Wait until `path` is answered with success, at once where it is empty; it ends with the block."""
        try:
            deadline = time.monotonic() + _READY_SECONDS
            while path and self.pid and not self._answers(path):
                if time.monotonic() > deadline:
                    raise BenchError("the service does not get ready")
                time.sleep(_POLL_SECONDS)
            yield self
        finally:
            self._child.stop()

    def _answers(self, path: str) -> bool:
        with contextlib.closing(connect(self.port)) as connection:
            try:
                connection.request("GET", path)
                return connection.getresponse().status == http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):
                return False


@dataclass(frozen=True)
class Host:
    """A folder with PostgreSQL as the stack has it, a data key and signing keys; all that is made goes into it."""

    folder: Path
    binaries: Path
    postgres: EmbeddedPostgres
    zone: ZoneInfo

    @property
    def postmaster(self) -> int:
        """The number of PostgreSQL's first process."""
        if self.postgres.pid is None:
            raise BenchError("PostgreSQL has ended")
        return self.postgres.pid

    def table(self, name: str, cards: int, *, is_bound: bool = True, code: Code = THIS) -> CardTable:
        """Make a database with cards, its tables by the migrations of `code`."""
        self.postgres.create_database(name)
        url = self.postgres.url(name)
        command(code, {"DATABASE_URL": url}, "migrate")
        table = CardTable(url, cards, datetime.now(self.zone).date(), is_bound)
        table.fill()
        return table

    def environ(self, table: CardTable) -> dict[str, str]:
        """Return the settings of a service with these cards."""
        return {
            "DATABASE_URL": table.url,
            "KERNAL_DATA_KEY_FILE": str(self.folder / "kernal_data_key"),
            "KADUN_KEYS_DIR": str(self.folder / "keys"),
            "KADUN_FILES_DIR": str(self.folder / "files"),
            "KADUN_FUNCTIONS_SOCKET": str(self.folder / "functions.sock"),
            "KADUN_TIMEZONE": self.zone.key,
            "PROMETHEUS_MULTIPROC_DIR": tempfile.mkdtemp(prefix="metrics-", dir=self.folder),
        }


def command(code: Code, environ: Mapping[str, str], *arguments: str) -> None:
    """Run a command of the operator's."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(code.folder)} | dict(environ)
    words = [code.python, "-P", "-m", "app", *arguments]
    done = subprocess.run(words, cwd=code.folder, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(arguments[:2])} of {code.name} failed: {tail(done.stderr, lines=1)}")


@contextmanager
def host() -> Iterator[Host]:
    """A machine's worth; all gone afterwards."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # 1,000 connections are as many files
    binaries = Trial.from_environ(os.environ).binaries
    install_binaries(binaries)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="kadun-bench-", dir="/var/tmp"))  # PostgreSQL's account gets there
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)  # PostgreSQL's account gets through it
        write_secret(folder / "kernal_data_key", str(pyrage.x25519.Identity.generate()))
        KeyFolder(folder / "keys").create(datetime.now(UTC), "kadun")
        compose = (CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8")
        settings = dict(re.findall(r'-c, "?(\w+)=(?:\$\{\w+:-)?(\w+)', compose)) | {"max_connections": "300"}
        postgres = EmbeddedPostgres(binaries, folder / "cluster", settings=settings)
        stack.callback(postgres.stop)
        postgres.start()
        yield Host(folder, binaries, postgres, noon_zone(datetime.now(UTC)))
