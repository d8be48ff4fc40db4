"""A generation's zygote, and the supervisors of its calls."""

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from app.functions import framing
from app.functions.call import MAX_DETAIL
from app.functions.concurrency import Slot
from app.functions.decorator import Caller
from app.functions.generation import Generation, GenerationGoneError, load
from app.functions.messages import CallRequest, Failed, Outcome, Returned, TimedOut
from app.functions.monitor import Limits
from tests.support.processes import processes_in
from tests.support.service import wait_for
from tests.support.tables import for_each
from tests.support.zygotes import launcher

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

@core_function("kills its supervisor")
def kills_its_supervisor(arguments, caller):
    os.kill(os.getppid(), 9)

@core_function("garbage")
def garbage(arguments, caller):
    for descriptor in range(3, 20):
        try:
            os.write(descriptor, bytes(arguments["bytes"]))
        except OSError:
            pass
    time.sleep(600)
"""

WITHOUT_OUTCOME = Failed("进程没有给出任何结果就结束了 / its process ended without an outcome")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "module.py").write_text(MODULE)
    return tmp_path


@pytest.fixture
def generation(folder: Path) -> Iterator[Generation]:
    loaded = load(folder, Limits(20, 64 * 1024**2, 1000), launcher())
    yield loaded
    loaded.close()
    assert processes_in(folder) == []


def request(function: str, **arguments: object) -> bytes:
    return msgspec.json.encode(CallRequest(function, arguments, Caller("card", "client", None)))


def call(generation: Generation, function: str, slot: Slot | None = None, **arguments: object) -> tuple[bytes, Outcome]:
    result = generation.call(request(function, **arguments), 100_000, slot or Slot(0))
    return result.printed, msgspec.json.decode(result.outcome, type=Outcome)  # type: ignore[arg-type]


def test_functions_are_described_and_calls_run_in_processes_of_their_own(generation: Generation) -> None:
    assert list(generation.functions) == ["echo", "hang", "exit", "silent", "kills its supervisor", "garbage"]
    assert generation.functions["echo"].doc == "Returns them."
    for _ in range(3):
        assert call(generation, "echo", a=1) == (b"printed", Returned([{"a": 1}, True]))


def test_a_slot_is_clear_unless_the_supervisor_was_killed(generation: Generation) -> None:
    slot = Slot(0)
    generation.call(request("exit"), 100_000, slot)
    assert slot.is_clear
    assert call(generation, "kills its supervisor", slot)[1] == WITHOUT_OUTCOME
    assert not slot.is_clear


def test_a_process_that_ends_without_an_outcome_is_a_failure_with_what_it_printed(generation: Generation) -> None:
    ended = "last words\n\n进程退出，状态 4 / its process ended with exit status 4"
    assert call(generation, "exit") == (b"", Failed(ended))
    closed = Failed("进程退出，状态 5 / its process ended with exit status 5")
    assert call(generation, "silent") == (b"", closed), "one that closed its pipe is waited for"
    garbage = Failed("进程写出的不是结果 / its process wrote something that is not an outcome")
    for content in (b"\0\0\0\3{}}", b"\xff" * 50_000, b"\0\0\0\0\0"):
        assert call(generation, "garbage", bytes=list(content))[1] == garbage


@for_each("kind", [Failed, TimedOut])
def test_what_a_call_writes_itself_for_the_journal_has_its_bounds(
    generation: Generation, kind: type[Failed] | type[TimedOut]
) -> None:
    forged = msgspec.json.encode(kind("x" * 30_000 + "\0end"))
    outcome = call(generation, "garbage", bytes=list(framing.encode(forged)))[1]
    assert isinstance(outcome, kind)
    assert (len(outcome.detail), outcome.detail[-8:]) == (MAX_DETAIL, "x\\x00end")


def test_a_call_ends_when_the_service_closes_its_connection(generation: Generation, folder: Path) -> None:
    with generation._begin(request("hang"), Slot(0)):  # noqa: SLF001  # no API hangs up
        wait_for(lambda: len(processes_in(folder)) == 1 + 2)
    wait_for(lambda: len(processes_in(folder)) == 1)
    assert call(generation, "echo")[1] == Returned([{}, True])


def test_closing_a_generation_ends_its_calls(folder: Path) -> None:
    generation = load(folder, Limits(20, 64 * 1024**2, 1000), launcher())
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(call(generation, "hang")[1]))
    thread.start()
    wait_for(lambda: len(processes_in(folder)) == 1 + 2)
    generation.close()
    thread.join()
    assert processes_in(folder) == []
    assert outcomes == [WITHOUT_OUTCOME]
    with pytest.raises(GenerationGoneError):
        call(generation, "echo")
