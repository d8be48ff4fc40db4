"""Calls of functions that fail, hang or misbehave: each has its outcome, and no process is left."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.functions.messages import Failed, Returned, TimedOut
from tests.support.executing import FUNCTION_SECONDS
from tests.support.functions_service import FunctionsService
from tests.support.rendezvous import Rendezvous
from tests.support.service import wait_for

IS_ROOT = os.geteuid() == 0


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


@pytest.mark.parametrize(
    "function", ["busy", "asleep", "deaf", "blocked in C", "printing", "descriptors closed, asleep"]
)
def test_a_function_that_does_not_end_times_out(impatient: FunctionsService, function: str) -> None:
    assert isinstance(impatient.call(function), TimedOut)
    wait_for(impatient.is_idle)
    assert impatient.call("well", a=1) == Returned({"a": 1})


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("exit", "its process ended with exit status 7"),
        ("exit well", "its process ended with exit status 0"),
        ("segfault", "Segmentation fault"),
        ("killed", "its process was ended by SIGKILL"),
        ("2 GiB", "MemoryError"),
        pytest.param(*("memory, bit by bit", "MemoryError"), marks=pytest.mark.nightly),
        ("20 MiB result", "the result has 20,971,522 bytes as JSON: at most 262,144 are allowed"),
        pytest.param(*("result beyond memory", "in the memory of a call"), marks=pytest.mark.nightly),
        pytest.param(  # since Python 3.12 the interpreter limits it
            *("recursion in C", "its process was ended by SIGSEGV" if sys.version_info < (3, 12) else "RecursionError"),
            marks=pytest.mark.nightly,
        ),
        ("very deep", "nested deeper than 64 levels"),
        ("large file", "File too large"),
        ("200 processes", "Resource temporarily unavailable" if IS_ROOT else "it started more than 100 processes"),
        ("supervisor killed", "Operation not permitted" if IS_ROOT else "without an outcome"),
        ("shared memory", "it took more memory than a call may"),
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


@pytest.mark.parametrize("function", ["thread without end", "fork that returns", "output closed", "children that stay"])
def test_processes_and_threads_that_outlive_the_result_are_ended(hostile: FunctionsService, function: str) -> None:
    assert hostile.call(function) == Returned("done")
    wait_for(hostile.is_idle)


def test_children_in_sessions_of_their_own_end_with_a_call_that_hangs(impatient: FunctionsService) -> None:
    assert impatient.call("children that stay, and hangs") == TimedOut()
    wait_for(impatient.is_idle)


def test_a_call_runs_in_a_minimal_environment(hostile: FunctionsService) -> None:
    outcome = hostile.call("surroundings")
    assert isinstance(outcome, Returned)
    seen = outcome.result
    assert set(seen["environment"]) == {
        "PATH",
        "HOME",
        "LANG",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONFAULTHANDLER",
        "PYTHONUNBUFFERED",
        "TMPDIR",
    }
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


@pytest.mark.parametrize("then", ["returns", "raises", "exits", "hangs"])
def test_each_call_has_its_own_temporary_folder_which_is_removed(impatient: FunctionsService, then: str) -> None:
    first = temporary_files(impatient, then)
    assert not first[0].exists()
    assert temporary_files(impatient, "returns")[0] != first[0]


def test_only_the_end_of_what_a_function_prints_is_logged(hostile: FunctionsService) -> None:
    assert hostile.call("prints much") == Returned("done")
    line = wait_for(lambda: [line for line in hostile.log.read_text().splitlines() if '"prints much"' in line])[-1]
    assert "the end" in line
    assert len(line) < 1_500
