"""Calls of functions that fail, hang or misbehave, and the service's own end: no process is left."""
# Owns functions-failures.

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from app.functions.call import MAX_DETAIL
from app.functions.client import FunctionsBusyError, FunctionsUnavailableError
from app.functions.messages import Failed, Returned, TimedOut
from tests.support.functions.executing import FUNCTION_SECONDS
from tests.support.hosts.rendezvous import Rendezvous
from tests.support.services.functions_service import WELL, FunctionsService
from tests.support.services.processes import children_of, processes_in
from tests.support.services.service import ROOT, wait_for
from tests.support.tables import for_each

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give calls user IDs; the containers do")
ENDLESS = ["deaf", "blocked in C", "printing", "descriptors closed, asleep", "children that stay, and hangs"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsService]:
    """A service with misbehaving functions."""
    folder = tmp_path_factory.mktemp("hostile")
    with FunctionsService(folder, KADUN_FUNCTION_SECONDS="120").with_hostile_functions().with_shop() as service:
        yield service


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsService]:
    """A service with misbehaving functions, and a short time limit."""
    folder = tmp_path_factory.mktemp("impatient")
    with FunctionsService(folder, KADUN_FUNCTION_SECONDS=str(FUNCTION_SECONDS)).with_hostile_functions() as service:
        yield service


def test_functions_that_do_not_end_time_out_and_leave_no_process(impatient: FunctionsService) -> None:
    for some in (ENDLESS[::2], ENDLESS[1::2]):
        with ThreadPoolExecutor(len(some)) as pool:
            outcomes = dict(zip(some, pool.map(impatient.call, some), strict=True))
        assert {type(outcome) for outcome in outcomes.values()} == {TimedOut}, outcomes
        wait_for(impatient.is_idle)
        assert impatient.call("well", a=1) == Returned({"a": 1})


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("segfault", "Segmentation fault"),
        ("2 GiB", "MemoryError"),
        ("large file", "File too large"),
        pytest.param("200 processes", "Resource temporarily unavailable", marks=NEEDS_ROOT),
    ],
)
def test_a_function_without_a_valid_result_fails_with_the_reason(
    hostile: FunctionsService, function: str, said: str
) -> None:
    outcome = hostile.call(function)
    assert isinstance(outcome, Failed)
    assert said in outcome.detail
    assert len(outcome.detail) <= 4_000
    assert "\0" not in outcome.detail
    assert "app/functions" not in outcome.detail.partition("Extension modules")[0] or "Fatal Python" in outcome.detail
    wait_for(hostile.is_idle)
    assert hostile.call("well", a=1) == Returned({"a": 1})


def test_what_a_function_writes_as_its_outcome_is_checked_and_has_the_journals_bounds(
    hostile: FunctionsService,
) -> None:
    for text in ("{}}", "\xff" * 50_000, "\n"):
        outcome = hostile.call("writes its outcome itself", text=text)
        assert isinstance(outcome, Failed), text
        assert "its process ended without a valid outcome" in outcome.detail, text
    for kind in (Failed, TimedOut):
        text = msgspec.json.encode(kind("x" * 30_000 + "\0end")).decode()
        forged = hostile.call("writes its outcome itself", text=text)
        assert isinstance(forged, kind)
        assert (len(forged.detail), forged.detail[-8:]) == (MAX_DETAIL, "x\\x00end")


@for_each("function", ["thread without end", "fork that returns", "output closed", "children that stay"])
def test_processes_and_threads_that_outlive_the_result_are_ended(hostile: FunctionsService, function: str) -> None:
    assert hostile.call(function) == Returned("done")
    wait_for(hostile.is_idle)


def test_a_call_runs_in_a_minimal_environment(hostile: FunctionsService) -> None:
    outcome = hostile.call("surroundings")
    assert isinstance(outcome, Returned)
    seen = outcome.result
    threads = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    python = {"PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER", "PYTHONUNBUFFERED"}
    assert set(seen["environment"]) == {"PATH", "HOME", "LANG", "TMPDIR"} | threads | python
    assert sorted(seen["descriptors"])[:3] == ["/dev/null", "pipe", "pipe"]
    assert sorted(seen["descriptors"])[3:] == ["pipe"]  # the result's
    assert seen["niceness"] == 19
    assert seen["oom_score_adj"] == "1000"
    assert seen["core"] == 0
    assert seen["leads a session"]
    assert seen["folder"] == str(hostile.modules)
    assert seen["threads"] == 1


def temporary_files(service: FunctionsService, then: str) -> list[Path]:
    """Have a call write some; return its temporary folder, one inside it, and a child's file."""
    with Rendezvous() as rendezvous:
        service.call("temporary files", port=rendezvous.port, then=then)
        written = [Path(name) for name in rendezvous.report().split()]
    assert len(written) == 3
    assert written[1].parent == written[2].parent == written[0]
    assert written[0].parent == Path("/tmp")
    return written


@for_each("then", ["returns", "exits", "hangs"])
def test_each_call_has_its_own_temporary_folder_which_is_removed(impatient: FunctionsService, then: str) -> None:
    first = temporary_files(impatient, then)
    assert not first[0].exists()
    assert temporary_files(impatient, "returns")[0] != first[0]


def test_only_the_end_of_what_a_function_prints_is_logged(hostile: FunctionsService) -> None:
    assert hostile.call("prints much") == Returned("done")
    line = wait_for(lambda: [line for line in hostile.log.read_text().splitlines() if '"prints much"' in line])[-1]
    assert "the end" in line
    assert len(line) < 1_500


@pytest.fixture
def service(tmp_path: Path) -> FunctionsService:
    return FunctionsService(tmp_path, KADUN_FUNCTION_SECONDS="5").with_module("well", WELL)


def hanging_call(service: FunctionsService) -> tuple[threading.Thread, int]:
    """Start a call that hangs and its children, which have sessions of their own.

    Returns:
        The call's thread and the zygote's process ID, when all of them run.
    """
    service.with_hostile_functions()
    service.client.reload()
    wait_for(service.is_idle)
    (zygote,) = processes_in(service.modules)

    def hang() -> None:
        with contextlib.suppress(FunctionsUnavailableError):
            service.call("children that stay, and hangs")

    thread = threading.Thread(target=hang)
    thread.start()
    wait_for(lambda: len(processes_in(service.modules)) >= 1 + 2 + 3)
    return thread, zygote


def test_a_killed_service_leaves_no_process(service: FunctionsService) -> None:
    with service:
        thread, _ = hanging_call(service)
        service.process.kill()
        thread.join()
        wait_for(lambda: processes_in(service.modules) == [])


def generation(service: FunctionsService) -> int:
    try:
        return service.client.list().generation
    except FunctionsBusyError:  # not loaded yet
        return 0


@pytest.mark.parametrize("killed", ["zygote", "server"])
def test_a_killed_process_is_replaced_and_leaves_no_process(service: FunctionsService, killed: str) -> None:
    with service:
        thread, zygote = hanging_call(service)
        (server,) = {*children_of(service.process.pid)} - {zygote}
        os.kill({"zygote": zygote, "server": server}[killed], signal.SIGKILL)
        thread.join()
        wait_for(lambda: service.answers() and (killed == "server" or generation(service) > 2))
        wait_for(service.is_idle)
        assert service.call("well") == Returned({})


def test_a_stopped_service_finishes_its_calls_and_leaves_no_process(tmp_path: Path) -> None:
    service, outcomes = FunctionsService(tmp_path, KADUN_FUNCTION_SECONDS="60"), []
    with service.with_shop(), Rendezvous() as rendezvous:
        thread = threading.Thread(target=lambda: outcomes.append(service.call("等待", port=rendezvous.port)))
        thread.start()
        rendezvous.wait()
        service.process.terminate()
        wait_for(lambda: "ending when the calls under way have ended" in service.log.read_text())
        rendezvous.release()
        thread.join()
    assert outcomes == [Returned("done")]
    wait_for(lambda: processes_in(service.modules) == [])


def test_the_socket_is_open_to_its_group_only_and_its_path_may_be_long(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    with FunctionsService(folder) as service:
        assert service.socket.stat().st_mode & 0o007 == 0
        assert service.client.list().functions == []


def test_the_service_refuses_to_start_with_a_secret_in_its_environment(service: FunctionsService) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.functions"],
        cwd=ROOT,
        env=service.environment | {"DATABASE_URL": "secret"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "kadun: DATABASE_URL is set: the functions service runs without secrets, take it away\n"
