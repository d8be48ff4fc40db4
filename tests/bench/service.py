"""What a service needs to start, on this machine and for one measurement: a database, keys, gunicorn."""

import contextlib
import http
import http.client
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

import pyrage

from app.tokens.key_folder import KeyFolder
from tests.bench import BenchError, cards, load, run
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


class Gunicorn(Child):
    """One service, started as in production, on a free port of 127.0.0.1 or on a unix socket.

    Args:
        environ: Its settings.
        log: What it writes.
        app: Gunicorn's name of the application.
        code: Where the application lies.
        socket: Where it listens instead of a port; then `url` is nothing to ask.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        log: Path,
        app: str = "app.wsgi:app",
        code: Code = THIS,
        socket: Path | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._socket = socket
        settings = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{code.folder}:{Path(__file__).parent / 'routes'}",
            "KADUN_BIND": f"unix:{socket}" if socket else f"{LOOPBACK}:{self.port}",
            "KADUN_WORKERS": str(WORKERS),
            "KADUN_THREADS": str(THREADS),
        }
        command = [code.python, "-P", "-m", "gunicorn", "--config", "python:app.gunicorn_conf", app]
        super().__init__(command, settings | dict(environ), log, signal.SIGTERM, cwd=code.folder)

    @contextmanager
    def running(self, path: str = "/readyz") -> Iterator[Self]:
        """Start it, wait until `path` is answered with success or the socket is there, and stop it with the block."""
        try:
            self.start()
            deadline = time.monotonic() + _READY_SECONDS
            while not self._is_ready(path):
                if self.pid is None or time.monotonic() > deadline:
                    said = tail(self._log.read_text(errors="replace"), lines=1)
                    raise BenchError(f"a service does not start: {said}")
                time.sleep(_POLL_SECONDS)
            yield self
        finally:
            self.stop()

    def _is_ready(self, path: str) -> bool:
        if self._socket:
            return self._socket.is_socket()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return load.exchange(self.port, "GET", path)[0] == http.HTTPStatus.OK
        return False


class Host(NamedTuple):
    """A folder with PostgreSQL as the stack has it, a data key and signing keys; all that is made goes into it."""

    folder: Path
    postgres: EmbeddedPostgres
    zone: ZoneInfo

    def postgresql(self) -> str:
        """Return PostgreSQL's version."""
        return str(cards.value(self.postgres.url(), "SHOW server_version"))

    def database(self, name: str, count: int, *, is_bound: bool = True, code: Code = THIS) -> str:
        """Make a database with so many cards, its tables by the migrations of `code`; return its URL."""
        self.postgres.create_database(name)
        url = self.postgres.url(name)
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(code.folder), "DATABASE_URL": url}
        run([code.python, "-P", "-m", "app", "migrate"], cwd=code.folder, env=environ)
        cards.fill(url, count, datetime.now(self.zone).date(), is_bound=is_bound)
        return url

    def environ(self, database: str) -> dict[str, str]:
        """Return the settings of a service on this database."""
        return {
            "DATABASE_URL": database,
            "KERNAL_DATA_KEY_FILE": str(self.folder / "kernal_data_key"),
            "KADUN_KEYS_DIR": str(self.folder / "keys"),
            "KADUN_FILES_DIR": str(self.folder / "files"),
            "KADUN_FUNCTIONS_SOCKET": str(self.folder / "functions.sock"),
            "KADUN_TIMEZONE": self.zone.key,
        }


@contextmanager
def host() -> Iterator[Host]:
    """A machine's worth; all gone afterwards."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # 1,000 connections are as many files
    binaries = Trial.from_environ(os.environ).binaries
    install_binaries(binaries)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="kadun-bench-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)  # PostgreSQL's account gets through it
        write_secret(folder / "kernal_data_key", str(pyrage.x25519.Identity.generate()))
        now = datetime.now(UTC)
        KeyFolder(folder / "keys").create(now)
        compose = (CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8")
        settings = dict(re.findall(r'-c, "?(\w+)=(?:\$\{\w+:-)?(\w+)', compose)) | {"max_connections": "300"}
        postgres = EmbeddedPostgres(binaries, folder / "cluster", settings=settings)
        stack.callback(postgres.stop)
        postgres.start()
        # Where it is about noon: the day must not change under a measurement.
        yield Host(folder, postgres, ZoneInfo(f"Etc/GMT{now.hour - 12:+d}"))
