"""The functions service in processes of its own, where its calls report and wait, and what pip installs for it."""

import os
import secrets
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Self

from app.functions.client import FunctionsClient, FunctionsUnavailableError
from app.functions.decorator import Caller
from app.functions.messages import Outcome
from app.functions.places import IDS
from tests.support.services.processes import processes_in
from tests.support.services.service import ROOT, GunicornProcess

CALLER = Caller("0" * 32, "1" * 32, None)
FUNCTION_SECONDS = 5
"""How long a function may run: on a busy machine two seconds go by before one has begun."""
HOSTILE = ROOT / "tests/support/functions/hostile_functions.py"
SHOP = '''
import encodings.idna  # for socket.create_connection, where calls cannot read Python's folder
import socket, sys, time
from typing import Annotated

import msgspec

from app.functions import core_function

class Order(msgspec.Struct, forbid_unknown_fields=True):
    amount: Annotated[int, msgspec.Meta(ge=1)]
    to: str = "CNY"
    note: str | None = None

@core_function("求和")
def add(arguments, caller):
    return {"sum": arguments["a"] + arguments["b"]}

@core_function("来者")
def who(arguments, caller):
    until = caller.expires_at
    return [caller.card_id, caller.client_id, None if until is None else until.isoformat()]

@core_function("下单")
def order(arguments: Order, caller):
    return arguments.amount

@core_function("原样")
def echo(arguments, caller):
    return arguments["value"]

@core_function("泄密")
def leak(arguments, caller):
    raise ValueError(f"password {arguments['secret']} refused")

@core_function("怪话")
def odd(arguments, caller):
    raise ValueError("NUL \\0, half a pair \\ud800, \\x1b[31mred")

@core_function("唠叨")
def chatty(arguments, caller):
    sys.stdout.write("the beginning " + "x" * 100_000 + " then\\nhalf a thing \\0\\x1b[31m\\n")
    while arguments.get("for ever"):
        time.sleep(60)
    return 1

@core_function("等待")
def wait(arguments, caller):
    """Say that it has begun, and go on when it is told to."""
    with socket.create_connection(("127.0.0.1", arguments["port"])) as connection:
        connection.recv(1)
    return "done"
'''
"""What a vendor might install, good and bad: the functions that tests of `POST /v1/execute` call."""
WELL = """
from app.functions import core_function

@core_function("well")
def well(arguments, caller):
    return arguments
"""


def free_user_ids() -> int:
    """Return the first of as many user IDs as a service needs, which nobody else uses."""
    return 300_000_000 + secrets.randbelow(1_000_000) * IDS


class FunctionsService(GunicornProcess):
    """The functions service of a folder, on the socket that the `Service` of the same folder uses."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.modules = folder / "functions"
        self.modules.mkdir(exist_ok=True)
        self.socket = folder / "functions.sock"
        if os.geteuid() == 0:
            settings = {"KADUN_FUNCTION_FIRST_UID": str(free_user_ids()), **settings}
        settings = {"KADUN_FUNCTIONS_DIR": str(self.modules), "KADUN_FUNCTIONS_SOCKET": str(self.socket), **settings}
        super().__init__("app.functions", folder / "functions.log", settings)
        self.client = FunctionsClient(self.socket, int(settings.get("KADUN_FUNCTION_SECONDS", "30")))

    def spawn(self) -> Any:
        command = [sys.executable, "-m", "app.functions"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self.process

    def with_module(self, name: str, text: str) -> Self:
        (self.modules / f"{name}.py").write_text(text)
        return self

    def with_hostile_functions(self) -> Self:
        """Install `tests/support/functions/hostile_functions.py`, and one function that does what it should."""
        return self.with_module("hostile", HOSTILE.read_text()).with_module("well", WELL)

    def with_shop(self) -> Self:
        return self.with_module("shop", SHOP)

    def call(self, function: str, **arguments: object) -> Outcome:
        return self.client.call(function, arguments, CALLER).outcome

    def answers(self) -> bool:
        try:
            self.client.list()
        except FunctionsUnavailableError:
            return False
        return True

    def is_idle(self) -> bool:
        """Whether no process but the zygote is left."""
        return len(processes_in(self.modules)) == 1


class Rendezvous:
    """A port of 127.0.0.1 to which calls connect and wait (they may write no file); `release` lets all go on."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(60)
        self._callers: list[socket.socket] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def wait(self) -> socket.socket:
        connection, _ = self._listener.accept()
        connection.settimeout(60)
        self._callers.append(connection)
        return connection

    def report(self) -> str:
        with self.wait().makefile(encoding="utf-8") as text:
            return text.read()

    def release(self) -> None:
        for connection in self._callers:
            connection.close()
        self._callers.clear()

    def close(self) -> None:
        self.release()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_wheel(folder: Path, version: str, *, name: str = "tiny", source: str = "") -> Path:
    """Write a pure wheel, whose one module says its version, for tests without an index; return its path."""
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": source or f'VERSION = "{version}"\n',
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{about}/RECORD"))
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**files, f"{about}/RECORD": record}.items():
            archive.writestr(path, text)
    return wheel
