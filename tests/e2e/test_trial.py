import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from kadun import Client

from tests.support.http_exchange import quiet_port
from tests.support.processes import is_alive
from tests.support.rendezvous import Rendezvous
from tests.support.service import ROOT, wait_for
from tests.support.trial_runner import START_SECONDS, TrialRun, processes_of
from tests.support.wheels import write_wheel
from trial.accounts import Account, first_barred
from trial.cluster import pid_file

pytestmark = pytest.mark.long

NOBODY = 65_534
IS_ISOLATED = os.geteuid() == 0 and not first_barred(Path(sysconfig.get_path("stdlib")), Account(NOBODY, NOBODY))
"""Whether calls of core functions have user IDs of their own here."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account reaches; pytest's own are closed to others."""
    made = Path(tempfile.mkdtemp(prefix="kadun-trial-test-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    assert processes_of(made) == []
    shutil.rmtree(made)


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310  # our own address
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


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


def test_a_first_start_shows_the_main_job_and_a_second_finds_its_data(folder: Path) -> None:
    with TrialRun(folder) as first:
        assert "100 USD = 712.00 CNY" in first.output
        assert "卡密已激活" in first.output
        assert "\x1b" not in first.output
        card = demo_card(first.output)
        shown = first.cardctl("card", "show", card, "--format", "json")
        assert shown.stderr == ""
        assert json.loads(shown.stdout)["client"]["hardware"] == f"demo-{card}"
        assert status(f"{first.url}/readyz") == 200
        assert f"the console: {first.url}/admin\n" in first.output
        command = re.findall(r"add its first operator: (.+)\n", first.output)[0]
        assert command == f"KADUN_DATA_DIR={first.data_dir} scripts/cardctl admin add boss"
        wait_for(lambda: "汇率换算" in first.cardctl("function", "list").stdout)
        (first.data_dir / "functions" / "exchange_rates.py").unlink()
        assert first.interrupt() == 0
    assert "Traceback" not in first.output
    assert processes_of(folder) == []

    for name in ("files", "functions", "logs"):  # the machine may have other users
        group = 0o050 if name == "functions" and IS_ISOLATED else 0  # the calls', which nobody else has
        assert (first.data_dir / name).stat().st_mode & 0o777 == 0o700 | group
    assert ("not isolated from one another" in first.output) is not IS_ISOLATED

    with TrialRun(folder) as second:
        assert demo_card(second.output) == card
        assert "100 USD = 712.00 CNY" in second.output
        assert "卡密已激活" not in second.output
        assert list((second.data_dir / "functions").glob("*.py")) == []  # the vendor's folder, which they may empty


def test_a_demo_card_that_no_longer_opens_is_followed_by_another(folder: Path) -> None:
    with TrialRun(folder) as first:
        card = demo_card(first.output)
        assert first.cardctl("card", "freeze", card).returncode == 0
    with TrialRun(folder) as second:
        assert demo_card(second.output) != card
        assert "100 USD = 712.00 CNY" in second.output


def test_sigterm_ends_it_as_ctrl_c_does(folder: Path) -> None:
    with TrialRun(folder) as run:
        assert run.process is not None
        run.process.terminate()
        assert run.wait() == 0


def test_after_a_kill_nothing_stands_in_the_way_of_a_new_start(folder: Path) -> None:
    with TrialRun(folder) as killed:
        card = demo_card(killed.output)
        killed.kill()
    with TrialRun(folder, port=killed.port) as again:
        assert demo_card(again.output) == card


def test_a_reader_who_goes_away_is_no_reason_to_stop(folder: Path) -> None:
    run = TrialRun(folder)
    command = f"exec {run.root}/scripts/run.sh | head -n 1"
    with subprocess.Popen(
        ["bash", "-c", command], env=run.environ, cwd="/", stdout=subprocess.DEVNULL, start_new_session=True
    ) as shell:
        wait_for(lambda: status(f"{run.url}/readyz") == 200, START_SECONDS)
        wait_for((run.data_dir / "demo" / "card").exists, START_SECONDS)
        os.killpg(shell.pid, signal.SIGINT)
    assert processes_of(folder) == []


def test_a_postgresql_that_dies_is_started_again(folder: Path) -> None:
    with TrialRun(folder) as run:
        file = pid_file(run.data_dir / "cluster")
        postmaster = file.read_text().splitlines()[0]
        os.kill(int(postmaster), signal.SIGKILL)
        wait_for(lambda: file.exists() and file.read_text().splitlines()[:1] not in ([], [postmaster]))
        wait_for(lambda: status(f"{run.url}/readyz") == 200)
        assert run.cardctl("card", "list").returncode == 0


def test_a_service_that_dies_ends_it_and_its_log_is_shown(folder: Path) -> None:
    with TrialRun(folder) as run:
        os.kill(child_of(run, "app.wsgi:app"), signal.SIGKILL)
        assert run.wait() == 1
    assert "The service has ended" in run.output.splitlines()[-1]
    assert "Traceback" not in run.output
    wait_for(lambda: processes_of(folder) == [])


FUNCTIONS = """
import os
import socket
import time

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


def with_functions(run: TrialRun) -> None:
    (run.data_dir / "functions" / "mine.py").write_text(FUNCTIONS, "utf-8")
    wait_for(lambda: "等待" in run.cardctl("function", "list").stdout, 60)


def command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:  # it has just ended
        return b""


def child_of(run: TrialRun, program: str) -> int:
    """Return the number of the trial's child with this argument; 0 while a dead one is being replaced."""
    assert run.process is not None
    children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
    found = [int(pid) for pid in children if program.encode() in command_of(pid)]
    return found[0] if found else 0


def functions_pid(run: TrialRun) -> int:
    return child_of(run, "app.functions")


def test_core_functions_are_served_and_know_no_secret(folder: Path) -> None:
    with TrialRun(folder) as run:
        with_functions(run)
        client = Client(run.url, run.cardctl("key", "export").stdout, new_card(run), hardware="h", state_dir=None)
        seen = client.execute("环境", {})
        told = Path(f"/proc/{functions_pid(run)}/environ").read_text()
        assert str(run.data_dir / "functions.sock") in told
        for known in (told, json.dumps(seen)):
            assert not re.search("DATABASE_URL|KERNAL_DATA_KEY|KADUN_KEYS_DIR|AGE-SECRET-KEY", known)
        assert json.loads(run.cardctl("function", "run", "环境").stdout).keys() == seen.keys()


def test_packages_for_core_functions_are_installed_on_the_trial(folder: Path) -> None:
    with TrialRun(folder) as run:
        functions = run.data_dir / "functions"
        write_wheel(functions, "1.0")
        (functions / "requirements.txt").write_text("./tiny-1.0-py3-none-any.whl\n")
        (functions / "mine.py").write_text(f"import tiny\n{FUNCTIONS}", "utf-8")
        installed = run.cardctl("function", "install")
        assert (installed.returncode, "等待" in installed.stdout) == (0, True), installed.stderr


def test_a_functions_service_that_dies_is_started_again(folder: Path) -> None:
    with TrialRun(folder) as run:
        with_functions(run)
        killed = functions_pid(run)
        assert killed
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: functions_pid(run) not in {0, killed})
        wait_for(lambda: run.cardctl("function", "run", "环境").returncode == 0, 60)


@pytest.mark.parametrize("ending", ["interrupt", "kill"])
def test_no_call_outlives_the_trial(folder: Path, ending: str) -> None:
    with TrialRun(folder) as run, Rendezvous() as rendezvous:
        with_functions(run)
        arguments = json.dumps({"port": rendezvous.port})
        with subprocess.Popen(
            [run.root / "scripts" / "cardctl", "function", "run", "等待", "--arguments", arguments],
            env=run.environ,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as calling:
            pid = rendezvous.report()
            assert is_alive(int(pid))
            getattr(run, ending)()
            calling.wait()
        wait_for(lambda: not is_alive(int(pid)))
        wait_for(lambda: [known for known in processes_of(folder) if "app.functions" in known] == [])
    wait_for(lambda: processes_of(folder) == [])


def test_a_wrong_setting_of_the_functions_stops_the_start(folder: Path) -> None:
    run = TrialRun(folder)
    run.environ["KADUN_FUNCTION_MEMORY_MB"] = "plenty"
    run.start()
    assert run.wait(START_SECONDS) == 1
    assert "KADUN_FUNCTION_MEMORY_MB is 'plenty'" in run.output
    assert "The functions service does not start" in run.output.splitlines()[-1]


def test_a_taken_port_is_refused_and_nothing_is_made(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        run = TrialRun(folder, port=listener.getsockname()[1])
        assert f"Port {run.port} is taken" in refused(run)
    assert not run.data_dir.exists()


def test_a_second_service_on_the_same_folder_is_refused(folder: Path) -> None:
    with TrialRun(folder) as first:
        second = TrialRun(folder)
        assert f"already runs on {first.data_dir}" in refused(second)
        assert status(f"{first.url}/readyz") == 200


def test_a_folder_that_cannot_serve_is_refused_and_nothing_is_made(folder: Path) -> None:
    # Root may write anywhere, but PostgreSQL's account must get there; anyone else must be able to write.
    barred = folder / "barred"
    barred.mkdir()
    barred.chmod(0o700 if os.getuid() == 0 else 0o500)
    line = refused(TrialRun(folder, data_dir=barred / "state"))
    assert f"cannot enter {barred}" in line or f"Cannot use the data folder {barred}" in line
    assert "KADUN_DATA_DIR" in line
    assert list(barred.iterdir()) == []


def test_a_wrong_port_is_refused(folder: Path) -> None:
    run = TrialRun(folder)
    run.environ["KADUN_PORT"] = "http"
    assert "KADUN_PORT is no port: 'http'" in refused(run)


def test_cardctl_without_a_running_trial_says_what_to_start(folder: Path) -> None:
    refusal = TrialRun(folder).cardctl("card", "list")
    assert refusal.returncode == 1
    assert re.fullmatch(r"cardctl: .*start scripts/run\.sh first\.\n", refusal.stderr)
    assert refusal.stdout == ""
    assert not (folder / "state").exists()


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


@pytest.mark.parametrize("script", ["run.sh", "test.sh", "cardctl"])
def test_a_script_explains_itself(script: str, folder: Path) -> None:
    environ = os.environ | {"KADUN_DATA_DIR": str(folder / "state"), "KADUN_PORT": str(quiet_port())}
    told = subprocess.run(
        [ROOT / "scripts" / script, "--help"],
        env=environ,
        cwd="/",
        capture_output=True,
        check=False,
        text=True,
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert script.removesuffix(".sh") in told.stdout


@pytest.mark.parametrize("script", ["run.sh", "test.sh"])
def test_an_unknown_argument_is_a_usage_error(script: str) -> None:
    told = subprocess.run(
        [ROOT / "scripts" / script, "--nonsense"], cwd="/", capture_output=True, check=False, text=True
    )
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.count("\n") == 1
