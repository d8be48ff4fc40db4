"""examples/desk, packaged with PyInstaller: the SDK survives it, over HTTPS through nginx with a private CA."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kadun import HardwareUnknown
from kadun.hardware import machine_string

from tests.support.client.desk_program import CORE, DESK, ROOT, DeskProgram
from tests.support.services.nginx import Gateway
from tests.support.services.socket_service import SocketService
from trial.postgres import EmbeddedPostgres

pytestmark = pytest.mark.long

ProgramMaker = Callable[[Path], DeskProgram]
PYTHONPATH = str(ROOT / "client" / "src")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres) -> Iterator[SocketService]:
    postgres.create_database("packaged_example")
    running = SocketService(tmp_path_factory.mktemp("service"), postgres.url("packaged_example"))
    running.environment["KADUN_OFFLINE_GRACE"] = "1d"
    running.cardctl("migrate")
    with running:
        yield running


@pytest.fixture(scope="module")
def vendor(
    tmp_path_factory: pytest.TempPathFactory, service: SocketService, gateway: Gateway
) -> Callable[[Path], DeskProgram]:
    """Makes the program as the vendor sets it up for this server, in a folder."""
    sealed = tmp_path_factory.mktemp("sealed") / "tariff.json.age"
    recipient = service.cardctl("key", "recipient").stdout.strip()
    seal = [sys.executable, "-m", "kadun", "seal", str(CORE), "-o", str(sealed), "--recipient", recipient]
    subprocess.run(seal, env={"PYTHONPATH": PYTHONPATH}, check=True)
    settings = {
        "SERVER": f"https://127.0.0.1:{gateway.https_port}",
        "PUBLIC_KEYS": service.cardctl("key", "export").stdout,
        "CA_FILE": "ca.pem",
        "HEARTBEAT_SECONDS": 0.5,
        "HARDWARE": _own_string_where_there_is_none(),
    }

    def make(folder: Path) -> DeskProgram:
        program = DeskProgram(folder, settings, sealed.read_bytes())
        shutil.copy(gateway.certificates / "fullchain.pem", program.source / "ca.pem")
        return program

    return make


def _own_string_where_there_is_none() -> str | None:
    try:
        machine_string()
    except HardwareUnknown:  # a container
        return "of the vendor's own"
    return None


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory, vendor: ProgramMaker) -> Path:
    return package(vendor(tmp_path_factory.mktemp("vendor")))


def package(program: DeskProgram, *more: str) -> Path:
    written = re.search(r"^pyinstaller .*desk\.py$", (DESK / "README.md").read_text("utf-8"), re.MULTILINE)
    assert written, "the README names no command"
    _pyinstaller, *arguments = shlex.split(written[0])
    certificate = ("--add-data", "ca.pem:.")
    command = [sys.executable, "-m", "PyInstaller", "--log-level", "WARN", *certificate, *more, *arguments]
    sdk = program.home / "sdk"  # as pip installs it: by the package's metadata PyInstaller finds the SDK's hook
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", sdk, ROOT / "client"]
    subprocess.run(pip, check=True)
    # PATH: for objdump and ldd.
    environment = {"PATH": os.environ["PATH"], "HOME": str(program.home), "PYTHONPATH": str(sdk)}
    done = subprocess.run(command, cwd=program.source, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program.source / "dist"


@pytest.fixture
def program(tmp_path: Path, packaged: Path, vendor: ProgramMaker) -> DeskProgram:
    """What a customer has: the packaged folder, no Python and no source."""
    return delivered(packaged, Path("desk/desk"), tmp_path, vendor)


def delivered(dist: Path, binary: Path, folder: Path, vendor: ProgramMaker) -> DeskProgram:
    """Carry what was packaged to a customer's machine."""
    program = vendor(folder)
    shutil.rmtree(program.source)
    shutil.copytree(dist, program.source)
    program.command = [str(program.source / binary)]
    program.environment = {"HOME": str(program.home)}
    return program


@pytest.fixture
def card(service: SocketService) -> Iterator[str]:
    """A fresh card; this machine is free for the next one afterwards."""
    card = service.new_card()
    yield card
    service.cardctl("card", "unbind", card)


def test_it_opens_unseals_and_starts_without_the_server_where_the_vendor_allows_that(
    program: DeskProgram, card: str, service: SocketService, gateway: Gateway
) -> None:
    first = program.run(card, "广东 3.5")
    assert (first.returncode, first.stderr) == (0, "")
    assert "卡密已激活" in first.stdout
    assert "广东 3.5 kg：14 元" in first.stdout
    hardware = _own_string_where_there_is_none() or machine_string("kadun-desk")
    assert f'"hardware": "{hardware}"' in service.cardctl("card", "show", card, "--format", "json").stdout
    gateway.__exit__()
    try:
        offline = program.run("新疆 2")  # the card is remembered
    finally:
        gateway.__enter__()
    assert offline.returncode == 0, offline.stderr
    assert "当前离线使用，请在" in offline.stdout
    assert "新疆 2 kg：30 元" in offline.stdout


def test_it_notices_while_it_runs_that_the_card_was_frozen_and_the_journal_has_the_reference(
    program: DeskProgram, card: str, service: SocketService
) -> None:
    with program.start() as running:
        assert running.stdin
        assert running.stdout
        assert running.stderr
        running.stdin.write(f"{card}\n")
        while "地区：" not in running.stdout.readline():
            assert running.poll() is None
        service.cardctl("card", "freeze", card)
        message = re.search(r"卡密已被冻结，请联系卖家（参考号 (\S{8})）", running.stderr.readline())
        assert message
        running.stdin.write("广东 1\n")
        assert running.wait(300) == 1
    assert card in service.cardctl("events", "--reference", message[1], "--format", "json").stdout


@pytest.mark.nightly
def test_a_single_file_does_it_too(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, vendor: ProgramMaker, card: str
) -> None:
    dist = package(vendor(tmp_path_factory.mktemp("vendor")), "--onefile")
    done = delivered(dist, Path("desk"), tmp_path, vendor).run(card, "广东 1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "广东 1 kg：8 元" in done.stdout


def test_no_core_data_in_clear_and_no_sealing_secret_goes_to_customers(packaged: Path, service: SocketService) -> None:
    shipped = [path.read_bytes() for path in packaged.rglob("*") if path.is_file()]
    assert len(shipped) > 10
    assert not any(CORE.read_bytes() in content for content in shipped)
    assert not any(service.environment["KERNAL_DATA_KEY"].encode() in content for content in shipped)
