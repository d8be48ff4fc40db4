"""examples/desk, packaged with PyInstaller, on a virtual display: over HTTPS through nginx with a private CA."""

import contextlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from kadun import HardwareUnknown
from kadun.hardware import machine_string

from tests.support.services.nginx import Gateway
from tests.support.services.service import ROOT, wait_for
from tests.support.services.socket_service import SocketService
from trial.postgres import EmbeddedPostgres

pytestmark = pytest.mark.long

DESK = ROOT / "examples" / "desk"
CORE = DESK / "tariff.json"
UPDATE = "https://example.com/下载?v=1.10"


@contextlib.contextmanager
def killed(command: Sequence[str], **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program, and kill it at the end of the block."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


class DeskProgram:
    """The program, and its customer at a display of their own."""

    def __init__(self, folder: Path, settings: dict[str, object], sealed: bytes) -> None:
        self.home = folder / "home"
        self.source = folder / "source"
        self.home.mkdir()
        shutil.copytree(
            DESK, self.source, ignore=shutil.ignore_patterns("__pycache__", "*.age", "*.spec", "build", "dist")
        )
        with (self.source / "shop.py").open("a", encoding="utf-8") as shop:
            shop.writelines(f"{name} = {value!r}\n" for name, value in settings.items())
        (self.source / "tariff.json.age").write_bytes(sealed)
        self.command: Sequence[str] = [str(self.source / "desk" / "desk")]
        browser = folder / "browser"
        browser.write_text(f'#!/bin/sh\nprintf %s "$1" >{folder}/browsed\n')
        browser.chmod(0o755)
        self.browsed = folder / "browsed"
        self.environment = {"HOME": str(self.home), "LANG": "C.UTF-8", "PATH": os.environ["PATH"]}
        self.environment["BROWSER"] = f"{browser} %s"

    @property
    def remembered(self) -> Path:
        return self.home / ".config" / "kadun-desk" / "card.txt"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        screen = ["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"]
        with tempfile.TemporaryFile("w+") as number, killed(screen, stdout=number, stderr=subprocess.DEVNULL):
            wait_for(lambda: os.fstat(number.fileno()).st_size > 1, 20)
            number.seek(0)
            self.environment["DISPLAY"] = f":{number.read().strip()}"
            with killed(self.command, env=self.environment) as program:
                yield
                assert program.poll() is None

    def _xdotool(self, *words: str) -> str:
        done = subprocess.run(["xdotool", *words], env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout

    def shows(self, pattern: str) -> re.Match[str]:
        """Wait until a window's title, which has all that the program tells its customer, contains this."""
        titles = ("search", "--onlyvisible", "--name", ".", "getwindowname", "%@")
        found: re.Match[str] = wait_for(lambda: re.search(pattern, self._xdotool(*titles)))
        return found

    def types(self, text: str) -> None:
        # Without a window manager, nobody else gives the new window the keyboard, and keys before that are lost.
        self._xdotool("search", "--onlyvisible", "--name", ".", "windowfocus", "--sync", "type", text)
        self.presses("Return")

    def types_card(self, card: str) -> None:
        self.shows("请输入卡密")
        self.types(card)
        self.shows("卡密已激活")

    def presses(self, *keys: str) -> None:
        self._xdotool("key", "--delay", "100", *keys)


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
        "SELF_SERVICE": True,
        "VERSION": "1.9",
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
    return delivered(packaged, tmp_path, vendor)


def delivered(dist: Path, folder: Path, vendor: ProgramMaker) -> DeskProgram:
    program = vendor(folder)
    shutil.rmtree(program.source)
    shutil.copytree(dist, program.source)
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
    with program.running():
        program.shows("请输入卡密")
        program.types("A" * 32)
        program.shows(r"（参考号 \S{8}）")
        assert not program.remembered.exists()
        program.types(card)
        program.shows("卡密已激活 · 卡密有效，有效期至")
        program.types("many")
        program.shows("请输入公斤数")
        program.presses(*["BackSpace"] * 4)
        program.types("3.5")
        program.shows("运费报价 · 14 元")
    hardware = _own_string_where_there_is_none() or machine_string("kadun-desk")
    assert f'"hardware": "{hardware}"' in service.cardctl("card", "show", card, "--format", "json").stdout
    assert program.remembered.read_text() == f"{card}\n"
    assert stat.S_IMODE(program.remembered.stat().st_mode) == 0o600
    gateway.__exit__()
    try:
        with program.running():  # the card is remembered
            program.shows("当前离线使用，请在")
            program.types("2")
            program.shows("运费报价 · 10 元")
    finally:
        gateway.__enter__()


def test_it_notices_while_it_runs_that_the_card_was_frozen_and_the_journal_has_the_reference(
    program: DeskProgram, card: str, service: SocketService
) -> None:
    with program.running():
        program.types_card(card)
        service.cardctl("card", "freeze", card)
        reference = program.shows(r"卡密已被冻结，请联系卖家（参考号 (\S{8})）")[1]
    assert card in service.cardctl("events", "--reference", reference, "--format", "json").stdout


def test_it_shows_the_notice_and_opens_the_page_of_an_update(
    program: DeskProgram, card: str, service: SocketService
) -> None:
    service.cardctl("terms", "set", "notice=今晚维护", "latest_version=1.10", f"update_url={UPDATE}")
    try:
        with program.running():
            program.types_card(card)
            program.shows("公告：今晚维护 · 有新版本 1.10")
            program.presses("Tab", "Tab", "space")  # the button after that for a quote
            wait_for(program.browsed.exists, 10)
            assert program.browsed.read_text() == UPDATE
            program.browsed.unlink()
        service.cardctl("terms", "set", "minimum_version=1.10")
        with program.running():
            program.shows(r"（参考号 \S{8}）")
            program.presses("Tab", "space")  # the only button
            wait_for(program.browsed.exists, 10)
    finally:
        service.cardctl("terms", "set", "notice=", "latest_version=", "update_url=", "minimum_version=")


def test_the_customer_unbinds_the_card_after_a_confirmation(
    program: DeskProgram, card: str, service: SocketService
) -> None:
    service.cardctl("terms", "set", "self_service=on", "self_unbind_per_30_days=10")
    with program.running():
        program.types_card(card)
        program.presses("Tab", "Tab", "space")
        program.shows("解绑\n")
        program.presses("Return")
        program.shows("已解绑")
    assert not program.remembered.exists()
    assert '"client": null' in service.cardctl("card", "show", card, "--format", "json").stdout


@pytest.mark.nightly
def test_a_single_file_does_it_too(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, vendor: ProgramMaker, card: str
) -> None:
    dist = package(vendor(tmp_path_factory.mktemp("vendor")), "--onefile")
    customer = delivered(dist, tmp_path, vendor)
    customer.command = [str(customer.source / "desk")]
    with customer.running():
        customer.types_card(card)


def test_no_core_data_in_clear_and_no_sealing_secret_goes_to_customers(packaged: Path, service: SocketService) -> None:
    shipped = [path.read_bytes() for path in packaged.rglob("*") if path.is_file()]
    assert len(shipped) > 10
    assert not any(CORE.read_bytes() in content for content in shipped)
    assert not any(service.environment["KERNAL_DATA_KEY"].encode() in content for content in shipped)
