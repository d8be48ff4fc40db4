"""A zygote with the vendor's modules, and the supervisors of its calls."""

import atexit
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import pytest

from app.functions.call import MAX_DETAIL
from app.functions.decorator import Caller
from app.functions.library import Generation, load, result_of
from app.functions.messages import CallRequest, Failed, Limits, Outcome, Returned, TimedOut
from tests.support.processes import processes_in
from tests.support.service import ROOT, wait_for
from tests.support.tables import for_each

MODULE = """
import os, time
from app.functions import core_function
print("imported")
PID = os.getpid()

@core_function("echo")
def echo(arguments, caller):
    "Returns them."
    print("printed", end="")
    return [arguments, os.getppid() != PID]

@core_function("hang")
def hang(arguments, caller):
    time.sleep(600)

@core_function("exit")
def leave(arguments, caller):
    print("last words")
    if os.fork() == 0:
        time.sleep(600)
    os._exit(4)

@core_function("silent")
def silent(arguments, caller):
    os.closerange(3, 100)
    time.sleep(0.2)
    os._exit(5)

@core_function("garbage")
def garbage(arguments, caller):
    for descriptor in range(3, 20):
        try:
            os.write(descriptor, bytes(arguments["bytes"]))
        except OSError:
            pass
    os._exit(0)
"""

LAUNCHER = """
import socket, sys
from app.functions.launcher import start_zygotes
requests = socket.socket(fileno=int(sys.argv[1]))
requests.send(b"r")
start_zygotes(requests, None)
"""
LIMITS = Limits(20, 64 * 1024**2, 1000)
WITHOUT_OUTCOME = Failed("进程没有给出有效的结果就结束了 / its process ended without a valid outcome")


@cache
def launcher() -> socket.socket:
    """Return the socket of a launcher of zygotes that gives no user IDs; one serves all tests of this process."""
    requests, mine = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with requests:
        command = [sys.executable, "-c", LAUNCHER, str(requests.fileno())]
        process = subprocess.Popen(command, cwd=ROOT, pass_fds=[requests.fileno()], start_new_session=True)
    atexit.register(process.wait)
    atexit.register(mine.close)
    mine.recv(1)  # it is ready: tests limit how long modules may take, not how long Python takes to start
    return mine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "module.py").write_text(MODULE)
    return tmp_path


@pytest.fixture
def generation(folder: Path) -> Iterator[Generation]:
    loaded = load(folder, LIMITS, launcher())
    yield loaded
    loaded.close()
    wait_for(lambda: processes_in(folder) == [])


def request(function: str, **arguments: object) -> bytes:
    return msgspec.json.encode(CallRequest(function, arguments, Caller("card", "client", None)))


def call(generation: Generation, function: str, **arguments: object) -> tuple[str, Outcome]:
    result = result_of(generation.begin(request(function, **arguments), 0), LIMITS)
    return result.printed, msgspec.json.decode(result.outcome, type=Outcome)  # type: ignore[arg-type]


def test_a_folder_without_modules_takes_no_process(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no module")
    loaded = load(tmp_path, LIMITS, launcher())
    assert (loaded.functions, loaded.broken, loaded.has_ended, processes_in(tmp_path)) == ({}, [], False, [])
    loaded.close()


def test_a_process_that_ends_without_an_outcome_is_a_failure_with_what_it_printed(generation: Generation) -> None:
    ended = "last words\n\n进程退出，状态 4 / its process ended with exit status 4"
    assert call(generation, "exit") == ("", Failed(ended))
    closed = Failed("进程退出，状态 5 / its process ended with exit status 5")
    assert call(generation, "silent") == ("", closed), "one that closed its pipe is waited for"
    for content in (b"{}}", b"\xff" * 50_000, b"\n"):
        assert call(generation, "garbage", bytes=list(content))[1] == WITHOUT_OUTCOME


@for_each("kind", [Failed, TimedOut])
def test_what_a_call_writes_itself_for_the_journal_has_its_bounds(
    generation: Generation, kind: type[Failed] | type[TimedOut]
) -> None:
    forged = msgspec.json.encode(kind("x" * 30_000 + "\0end"))
    outcome = call(generation, "garbage", bytes=list(forged))[1]
    assert isinstance(outcome, kind)
    assert (len(outcome.detail), outcome.detail[-8:]) == (MAX_DETAIL, "x\\x00end")


def test_a_call_ends_when_the_service_closes_its_connection(generation: Generation, folder: Path) -> None:
    with generation.begin(request("hang"), 0):
        wait_for(lambda: len(processes_in(folder)) == 1 + 2)
    wait_for(lambda: len(processes_in(folder)) == 1)
    assert call(generation, "echo")[1] == Returned([{}, True])


GOOD = """
from app.functions import core_function
def good(arguments, caller): return 1
core_function("NAME")(good)
"""
ODD = {
    "bbb": "good.__doc__ = 'about \\ud800'",
    "ccc": "core_function('ccc\\ud800')(good)",
    "ddd": "import msgspec, typing as t\n"
    "core_function('x', schema=t.Annotated[dict, msgspec.Meta(title='\\ud800')])(good)",
    "eee": "good.__module__ = 5",
    os.fsdecode(b"m\xff"): "",
}
"""What each module has besides a good function."""


def test_a_module_whose_name_or_description_is_not_json_is_broken_and_others_work(folder: Path) -> None:
    (folder / "module.py").unlink()
    for name, more in {"aaa": "", **ODD, "zzz": ""}.items():
        (folder / f"{name}.py").write_text(GOOD.replace("NAME", ascii(name)[1:-1]) + more)
    (folder / os.fsdecode(b"p\xff")).mkdir()
    (folder / os.fsdecode(b"p\xff") / "__init__.py").write_text("")
    loaded = load(folder, LIMITS, launcher())
    loaded.close()
    errors = {broken.module: broken.error for broken in loaded.broken}
    assert (list(errors), list(loaded.functions)) == (
        ["ccc", "ddd", "eee", "m\\udcff", "p\\udcff"],
        ["aaa", "bbb", "zzz"],
    )
    assert all("cannot name a module" in errors[name] for name in ("m\\udcff", "p\\udcff"))
