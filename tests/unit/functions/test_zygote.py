"""The protocol between the service, the zygote, its reaper and its supervisors."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from app.functions import framing, zygote
from app.functions.decorator import Caller
from app.functions.messages import CallRequest, Failed, Outcome, Returned
from app.functions.supervisor import Limits
from tests.support.processes import processes_in
from tests.support.service import ROOT, wait_for

MODULE = """
import os, sys, time
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
    os.close(1), os.close(2)
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
    time.sleep(600)

@core_function("twice")
def once(arguments, caller): ...
@core_function("twice")
def twice(arguments, caller): ...
"""


class Running:
    """A zygote with its reaper."""

    def __init__(self) -> None:
        self.control, control = socket.socketpair()
        self.lifeline, lifeline = socket.socketpair()
        self.crash = os.memfd_create("crash")
        ends = (control.fileno(), lifeline.fileno(), self.crash)
        with control, lifeline:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.functions.zygote", *map(str, ends)], cwd=ROOT, pass_fds=ends
            )
        self.control.settimeout(20)

    def load(self, folder: Path, *skipped: str) -> list[zygote.Report]:
        request = zygote.LoadRequest(str(folder), list(skipped), Limits(2, 64 * 1024**2, 1000))
        self.control.sendall(framing.encode(msgspec.json.encode(request)))
        reports: list[zygote.Report] = []
        while not reports or not isinstance(reports[-1], zygote.Ready):
            content = framing.receive(self.control, zygote.MAX_REPORT_BYTES)
            reports.append(msgspec.json.decode(content, type=zygote.Report))  # type: ignore[arg-type]
        return reports

    def begin(self, function: str, **arguments: object) -> socket.socket:
        connection, supervisor_end = socket.socketpair()
        with supervisor_end:
            socket.send_fds(self.control, [b"c"], [supervisor_end.fileno()])
        connection.settimeout(20)
        request = CallRequest(function, arguments, Caller("card", "client", None))
        connection.sendall(framing.encode(msgspec.json.encode(request)))
        return connection

    def call(self, function: str, **arguments: object) -> tuple[bytes, Outcome]:
        with self.begin(function, **arguments) as connection:
            printed = framing.receive(connection, 100_000)
            return printed, msgspec.json.decode(framing.receive(connection, 100_000), type=Outcome)  # type: ignore[arg-type]

    def close(self) -> int:
        """Close the connection to the zygote, and return the reaper's exit code."""
        self.control.close()
        code = self.process.wait(20)
        self.lifeline.close()
        os.close(self.crash)
        return code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "module.py").write_text(MODULE)
    return tmp_path


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    assert made.close() == 0


def test_modules_are_imported_one_after_another_and_reported(running: Running, folder: Path) -> None:
    (folder / "broken.py").write_text("1 / 0")
    (folder / "skipped.py").write_text("raise SystemExit")
    first, error, second, ready = running.load(folder, "skipped")
    assert (first, second) == (zygote.Importing("broken"), zygote.Importing("module"))
    assert isinstance(error, zygote.Broken)
    assert "ZeroDivisionError" in error.error
    assert isinstance(ready, zygote.Ready)
    assert [function.name for function in ready.functions] == ["echo", "hang", "exit", "silent", "garbage"]
    assert ready.functions[0].doc == "Returns them."
    assert ["several functions have the name 'twice'" in broken.error for broken in ready.refused] == [True]


def test_calls_run_in_processes_of_their_own(running: Running, folder: Path) -> None:
    running.load(folder)
    for _ in range(3):
        assert running.call("echo", a=1) == (b"printed", Returned([{"a": 1}, True]))


def test_what_a_process_printed_before_it_ended_is_in_the_outcome_only(running: Running, folder: Path) -> None:
    running.load(folder)
    printed, outcome = running.call("exit")
    assert printed == b""
    assert outcome == Failed("last words\n\n进程退出，状态 4 / its process ended with exit status 4")


def test_a_process_that_closed_its_pipe_is_waited_for(running: Running, folder: Path) -> None:
    running.load(folder)
    assert running.call("silent") == (b"", Failed("进程退出，状态 5 / its process ended with exit status 5"))


@pytest.mark.parametrize("content", [b"\0\0\0\3{}}", b"\xff" * 50_000, b"\0\0\0\0\0"])
def test_garbage_on_the_result_pipe_is_a_failure(running: Running, folder: Path, content: bytes) -> None:
    running.load(folder)
    assert running.call("garbage", bytes=list(content))[1] == Failed(
        "进程写出的不是结果 / its process wrote something that is not an outcome"
    )


def test_a_call_ends_when_the_service_closes_its_connection(running: Running, folder: Path) -> None:
    running.load(folder)
    with running.begin("hang"):
        wait_for(lambda: len(processes_in(folder)) == 1 + 2)
    wait_for(lambda: len(processes_in(folder)) == 1)
    assert running.call("echo")[1] == Returned([{}, True])


def test_the_reaper_ends_everything_when_the_service_has_ended(folder: Path) -> None:
    made = Running()
    made.load(folder)
    with made.begin("hang") as call:
        wait_for(lambda: len(processes_in(folder)) == 1 + 2)
        made.lifeline.close()
        assert made.close() == 0
        assert processes_in(folder) == []
        with pytest.raises((EOFError, OSError)):
            framing.receive(call, 1000)


def test_the_exit_code_of_the_reaper_tells_how_the_zygote_ended(tmp_path: Path) -> None:
    (tmp_path / "crash.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    made = Running()
    with pytest.raises(EOFError):
        made.load(tmp_path)
    assert made.close() == zygote.SIGNALLED + 9
