"""scripts/run.sh: one start and the next, what ends it, what is refused, and an ordinary user's checkout."""
# Owns run-trial.

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest
from kadun import Client

from tests.support.services.functions_service import Rendezvous, write_wheel
from tests.support.services.http_exchange import exchange
from tests.support.services.processes import children_of, is_alive, processes_of
from tests.support.services.service import ROOT, wait_for
from tests.support.services.trial_runner import START_SECONDS, TrialRun
from trial.postgres import NOBODY, EmbeddedPostgres

pytestmark = pytest.mark.long


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account reaches; pytest's own are closed to others."""
    made = Path(tempfile.mkdtemp(prefix="kadun-trial-test-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    assert processes_of(made) == []
    shutil.rmtree(made)


def is_ready(run: TrialRun) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", run.port, timeout=10)
    return exchange(connection, "GET", "/readyz", None, {}).status == 200


def refused(run: TrialRun) -> str:
    """Start what must not start; return the one line that says why."""
    run.start()
    assert run.wait() == 1
    line, *more = run.output.splitlines()
    assert more == []
    return line


def new_card(run: TrialRun) -> str:
    return run.cardctl("card", "issue", "--validity", "1d", "--format", "txt").stdout.strip()


def demo_card(output: str) -> str:
    return re.findall(r"--hardware demo-([0-9A-Z]{32}) ", output)[0]


def test_a_first_start_shows_the_main_job_and_after_a_kill_a_second_finds_its_data(folder: Path) -> None:
    with TrialRun(folder) as first:
        assert "100 USD = 712.00 CNY" in first.output
        assert "卡密已激活" in first.output
        assert "\x1b" not in first.output
        card = demo_card(first.output)
        shown = first.cardctl("card", "show", card, "--format", "json")
        assert shown.stderr == ""
        assert json.loads(shown.stdout)["client"]["hardware"] == f"demo-{card}"
        assert is_ready(first)
        assert f"the console: {first.url}/admin\n" in first.output
        command = re.findall(r"add its first operator: (.+)\n", first.output)[0]
        assert command == f"KADUN_DATA_DIR={first.data_dir} scripts/cardctl admin add boss"
        wait_for(lambda: "汇率换算" in first.cardctl("function", "list").stdout)
        (first.data_dir / "functions" / "exchange_rates.py").unlink()
        first.kill()
        wait_for(lambda: processes_of(folder) == [])
    assert "Traceback" not in first.output

    for name in ("files", "functions", "logs"):  # the machine may have other users
        assert (first.data_dir / name).stat().st_mode & 0o777 == 0o700

    with TrialRun(folder, port=first.port) as second:
        assert demo_card(second.output) == card
        assert "100 USD = 712.00 CNY" in second.output
        assert "卡密已激活" not in second.output
        assert list((second.data_dir / "functions").glob("*.py")) == []  # the vendor's folder, which they may empty
        assert second.process is not None
        second.process.terminate()  # as Ctrl-C does
        assert second.wait() == 0
    assert "Traceback" not in second.output


def test_its_postgresql_listens_on_loopback_and_takes_no_wrong_password(postgres: EmbeddedPostgres) -> None:
    assert "@127.0.0.1:" in postgres.url()
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(postgres.url().replace("kadun:", "kadun:x"))


FUNCTIONS = """
import os
import socket
import time

import tiny
from app.functions import core_function


@core_function("环境")
def environment(arguments, caller):
    return dict(os.environ)


@core_function("等待")
def wait(arguments, caller):
    with socket.create_connection(("127.0.0.1", arguments["port"])) as connection:
        connection.sendall(str(os.getpid()).encode())
    time.sleep(600)
"""


def child_of(run: TrialRun, program: str) -> int:
    assert run.process is not None
    return next(pid for pid in children_of(run.process.pid) if program in Path(f"/proc/{pid}/cmdline").read_text())


@contextmanager
def waiting_call(run: TrialRun) -> Iterator[int]:
    """A call of a core function that does not end by itself: its process ID."""
    with Rendezvous() as rendezvous:
        arguments = json.dumps({"port": rendezvous.port})
        with subprocess.Popen(
            [run.root / "scripts" / "cardctl", "function", "run", "等待", "--arguments", arguments],
            env=run.environ,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ):
            pid = int(rendezvous.report())
            assert is_alive(pid)
            yield pid


def test_functions_get_no_secret_and_when_the_service_dies_all_ends(folder: Path) -> None:
    with TrialRun(folder) as run:
        assert f"already runs on {run.data_dir}" in refused(TrialRun(folder))
        assert is_ready(run)

        functions = run.data_dir / "functions"
        write_wheel(functions, "1.0")
        (functions / "requirements.txt").write_text("./tiny-1.0-py3-none-any.whl\n")
        (functions / "mine.py").write_text(FUNCTIONS, "utf-8")
        installed = run.cardctl("function", "install")
        assert (installed.returncode, "等待" in installed.stdout) == (0, True), installed.stderr
        client = Client(run.url, run.cardctl("key", "export").stdout, new_card(run), hardware="h", state_dir=None)
        seen = client.execute("环境", {})
        told = Path(f"/proc/{child_of(run, 'app.functions')}/environ").read_text()
        assert str(run.data_dir / "functions.sock") in told
        for known in (told, json.dumps(seen)):
            assert not re.search("DATABASE_URL|KERNAL_DATA_KEY|KADUN_KEYS_DIR|AGE-SECRET-KEY", known)

        with waiting_call(run) as pid:
            os.kill(child_of(run, "app.wsgi:app"), signal.SIGKILL)
            assert run.wait() == 1
        wait_for(lambda: not is_alive(pid))
    assert "service has ended" in run.output.splitlines()[-1]
    assert f"{ROOT}/trial/" not in run.output, "tracebacks are the service's, whose log is shown"
    wait_for(lambda: processes_of(folder) == [])


@pytest.mark.nightly
def test_a_folder_that_postgresql_cannot_enter_is_named(folder: Path) -> None:
    barred = folder / "barred"
    barred.mkdir()
    barred.chmod(0o700 if os.getuid() == 0 else 0o500)  # root may write anywhere, but PostgreSQL must get there
    run = TrialRun(folder, data_dir=barred / "state")
    run.start()
    assert run.wait(START_SECONDS) == 1
    assert str(barred) in run.output.splitlines()[-1]
    assert "KADUN_DATA_DIR" in run.output.splitlines()[-1]


def test_what_cannot_serve_is_refused_in_one_line_and_no_database_is_made(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = TrialRun(folder, port=listener.getsockname()[1])
        assert f"Cannot listen on port {taken.port}" in refused(taken)
    (folder / "file").touch()
    assert f"Cannot use the data folder {folder}/file/state" in refused(
        TrialRun(folder, data_dir=folder / "file/state")
    )
    run = TrialRun(folder)
    run.environ["KADUN_PORT"] = "http"
    assert "KADUN_PORT is no port: 'http'" in refused(run)
    refusal = TrialRun(folder).cardctl("card", "list")
    assert (refusal.returncode, refusal.stdout) == (1, "")
    assert re.fullmatch(r"cardctl: .*start scripts/run\.sh first\.\n", refusal.stderr)
    assert not taken.data_dir.joinpath("cluster").exists()


def test_an_ordinary_user_needs_nothing_but_the_checkout(folder: Path) -> None:
    checkout = folder / "kadun"
    state = ("data", "secrets", ".env", ".trial", ".venv", ".git", ".*_cache", ".hypothesis", "__pycache__")
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*state))
    uid = NOBODY if os.getuid() == 0 else None
    if uid:
        subprocess.run(["chown", "-R", f"{uid}:{uid}", folder], check=True)
    run = TrialRun(folder, data_dir=checkout / ".trial", root=checkout, uid=uid)
    del run.environ["KADUN_DATA_DIR"]  # where it then is, is part of the promise
    with run:
        assert "100 USD = 712.00 CNY" in run.output
        assert "\n添加首位管理员  add its first operator: scripts/cardctl admin add boss\n" in run.output
        assert run.cardctl("card", "list", "--format", "json").returncode == 0
        assert run.interrupt() == 0
    assert (run.data_dir / "cluster" / "data" / "PG_VERSION").exists()


@pytest.mark.nightly
def test_a_demo_card_that_no_longer_opens_is_followed_by_another(folder: Path) -> None:
    with TrialRun(folder) as first:
        card = demo_card(first.output)
        assert first.cardctl("card", "freeze", card).returncode == 0
    with TrialRun(folder) as second:
        assert demo_card(second.output) != card
        assert "100 USD = 712.00 CNY" in second.output
