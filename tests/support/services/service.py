"""The service for tests: gunicorn with the app, in a process of its own."""

import atexit
import http.client
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import IO, Any, NamedTuple, Self
from unittest.mock import patch

import jwt
from click.testing import CliRunner

from app.cli.main import main
from app.services.operators import passwords
from app.storage import models
from tests.support import openapi_contract as contract
from tests.support.secrets import CHEAP, SEALING_KEY
from tests.support.services.http_exchange import exchange, quiet_port

ROOT = Path(__file__).resolve().parents[3]
OPEN = "打开程序"
_starting = threading.Lock()
_server: tuple[int, socket.socket] | None = None


class ForkedGunicorn:
    """A gunicorn, with the methods of `subprocess.Popen` that tests use.

    It is a fork of a process that has imported the app and patched the standard library, instead of a new Python.
    `multiprocessing` cannot wait for forks there.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], output: IO[bytes]) -> None:
        self._keeper, keeper = Pipe(duplex=False)
        self.returncode: int | None = None
        with keeper, _starting:
            request = json.dumps([arguments, dict(environment)]).encode()
            socket.send_fds(_forks(), [request], [keeper.fileno(), output.fileno()])
        self.pid: int = self._keeper.recv()

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        if self.returncode is None and self._keeper.poll():
            self.returncode = self._keeper.recv()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not self._keeper.poll(timeout):
            raise subprocess.TimeoutExpired(f"gunicorn {self.pid}", timeout or 0)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _forks() -> socket.socket:
    """Return the way to this process's fork server, which ends with it."""
    global _server  # noqa: PLW0603  # a process has one
    if _server is None or _server[0] != os.getpid():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.support.services.gunicorn_forks", str(theirs.fileno())]
        with theirs:
            process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        atexit.register(process.wait)
        atexit.register(ours.close)
        _server = os.getpid(), ours
    return _server[1]


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def claims(self) -> dict[str, Any]:
        return jwt.decode(self.body["token"], options={"verify_signature": False})


def wait_for(condition: Any, seconds: float = 60) -> Any:
    """Return the first true value of `condition()`; fail when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"the condition did not become true in {seconds} s")
        time.sleep(0.05)  # between two looks


def wait_for_lock(database: Any) -> None:
    """Wait until another connection waits for a lock of this one; other tests' locks in the cluster do not count."""
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    wait_for(lambda: database.execute_sql(waiting).fetchone())


def wait_for_waiting(database: Any, count: int) -> None:
    """Wait until at least so many transactions of this database wait for locks."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    def wait() -> bool:
        database.execute_sql("SELECT pg_stat_clear_snapshot()")  # in a transaction, it would stay as it was at first
        return bool(database.execute_sql(waiting).fetchone()[0] >= count)

    wait_for(wait)


def question(card_id: str, hardware: str = "machine-1", function: str = OPEN, **more: Any) -> dict[str, Any]:
    return {"card_id": card_id, "hardware": hardware, "function": function, "nonce": secrets.token_urlsafe(24), **more}


class GunicornProcess:
    """A gunicorn with one of the applications, which a test starts and stops."""

    def __init__(self, application: str, log: Path, settings: dict[str, str]) -> None:
        self.application = application
        self.log = log
        inherited = {name: text for name, text in os.environ.items() if name == "PATH" or name.startswith("COVERAGE_")}
        self.environment = inherited | settings
        self.process: Any = None

    def start(self) -> Self:
        process = self.spawn()
        wait_for(lambda: self.answers() or process.poll() is not None, 60)
        assert process.poll() is None, self.log.read_text()
        return self

    def spawn(self) -> Any:
        """Start it without waiting for an answer."""
        arguments = ["--config", "python:app.gunicorn_conf", f"{self.application}.wsgi:app"]
        with self.log.open("ab") as log:
            self.process = ForkedGunicorn(arguments, self.environment, log)
        return self.process

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answers(self) -> bool:
        raise NotImplementedError


class Service(GunicornProcess):
    """The service on a port of 127.0.0.1, behind no proxy unless its settings say so."""

    def __init__(self, folder: Path, database_url: str, **settings: str) -> None:
        self.port = quiet_port()
        self.folder = folder
        settings = {
            "DATABASE_URL": database_url,
            "KADUN_SEALING_KEY": SEALING_KEY,
            "KERNAL_DATA_KEY": "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX",
            "KADUN_KEYS_DIR": str(folder / "keys"),
            "KADUN_FILES_DIR": str(folder / "files"),
            "KADUN_FUNCTIONS_SOCKET": str(folder / "functions.sock"),
            "KADUN_BIND": f"127.0.0.1:{self.port}",
            **settings,
        }
        super().__init__("app", folder / "service.log", settings)

    def answers(self) -> bool:
        try:
            return self.get("/healthz").status == 200
        except OSError:
            return False

    def cardctl(self, *arguments: str, check: bool = True, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in the test's own process, which takes a third of the time of a fork.

        Not for tests of terminals, pipes, `--follow`, Ctrl-C or several commands at once: these use `run_cardctl`.
        """
        status: object = None
        with (
            patch.dict("os.environ", self.environment, clear=True),
            patch.object(sys, "argv", ["cardctl", *arguments]),
            patch.object(passwords.PASSWORDS, "_hasher", CHEAP),
            _own_state(),
            CliRunner().isolation(input=text) as (output, errors, _),
        ):
            try:
                main()
            except SystemExit as ended:
                status = ended.code
            sys.stdout.flush()
            sys.stderr.flush()
        assert isinstance(status, int)
        said, complained = (stream.getvalue().decode() for stream in (output, errors))
        assert not check or status == 0, complained
        return subprocess.CompletedProcess(["cardctl", *arguments], status, said, complained)

    def run_cardctl(self, *arguments: str, check: bool = True, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in a process of its own, beside others."""
        command = [sys.executable, "-m", "app", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, input=text, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def spawn_cardctl(self, *arguments: str, **options: Any) -> subprocess.Popen[Any]:
        """Begin a command in a process of its own, which a test feeds, reads or ends."""
        command = [sys.executable, "-m", "app", *arguments]
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, **options)

    def cardctl_json(self, *arguments: str, text: str = "") -> Any:
        """Run a command; return what it prints with `--format json`."""
        return json.loads(self.cardctl(*arguments, "--format", "json", text=text).stdout)

    def refusal(self, *arguments: str, text: str = "") -> str:
        """Run a command that must fail with status 1; return the one line that it says."""
        done = self.cardctl(*arguments, check=False, text=text)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done
        return done.stderr

    def doctor(self, *arguments: str, text: str = "") -> dict[str, Any]:
        done = self.cardctl("doctor", "--format", "json", *arguments, check=False, text=text)
        assert "Traceback" not in done.stderr
        lines = json.loads(done.stdout)
        failed = any(line["status"] == "FAIL" for line in lines)
        assert (done.returncode, len(done.stderr.splitlines())) == (failed, failed)
        return {line["check"]: line for line in lines}

    def issue(self, count: int = 1, validity: str = "30d") -> list[str]:
        printed = self.cardctl("card", "issue", "--validity", validity, "--count", str(count), "--format", "txt")
        return printed.stdout.split()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        answer = exchange(connection, method, path, body, headers or {})
        contract.check(method, path, answer.status, answer.headers, answer.body)
        is_json = "json" in answer.headers.get("content-type", "") and answer.body
        return Response(answer.status, answer.headers, answer.json() if is_json else {})

    def get(self, path: str) -> Response:
        return self.request("GET", path)

    def post(self, body: bytes, headers: dict[str, str] | None = None) -> Response:
        return self.request("POST", "/v1/verify", body, {"Content-Type": "application/json", **(headers or {})})

    def verify(self, document: dict[str, Any], *, address: str | None = None, **headers: str) -> Response:
        """Verify a card; `address` is the client address that the proxy reports."""
        if address is not None:
            headers["X-Real-IP"] = address
        return self.post(json.dumps(document).encode(), headers)


@contextmanager
def _own_state() -> Iterator[None]:
    """Put back what a command changes of a process: the models' database and the log's handlers."""
    database, handlers = models.database.obj, logging.getLogger().handlers[:]
    try:
        yield
    finally:
        if models.database.obj is not database:
            models.database.close()
            models.database.initialize(database)
        logging.getLogger().handlers[:] = handlers
