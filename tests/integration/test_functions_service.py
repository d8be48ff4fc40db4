"""The functions service starts, stops, and leaves no process behind."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.functions.client import FunctionsBusyError, FunctionsUnavailableError
from app.functions.messages import Returned
from tests.support.functions_service import WELL, FunctionsService
from tests.support.processes import children_of, processes_in
from tests.support.rendezvous import Rendezvous
from tests.support.service import ROOT, wait_for


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


def gunicorn_of(service: FunctionsService) -> int:
    """The child of the launcher that is no zygote: those work in the folder of the modules."""
    (gunicorn,) = {*children_of(service.process.pid)} - {*processes_in(service.modules)}
    return gunicorn


def generation(service: FunctionsService) -> int:
    try:
        return service.client.list().generation
    except FunctionsBusyError:  # not loaded yet
        return 0


def test_a_killed_zygote_is_replaced_and_leaves_no_process(service: FunctionsService) -> None:
    with service:
        thread, zygote = hanging_call(service)
        os.kill(zygote, signal.SIGKILL)
        thread.join()
        wait_for(lambda: service.answers() and generation(service) > 2)
        wait_for(service.is_idle)
        assert service.call("well") == Returned({})


def test_a_killed_worker_is_replaced_and_leaves_no_process(service: FunctionsService) -> None:
    with service:
        thread, _ = hanging_call(service)
        (worker,) = children_of(gunicorn_of(service))
        os.kill(worker, signal.SIGKILL)
        thread.join()
        wait_for(lambda: service.answers() and service.is_idle())
        assert service.call("well") == Returned({})


def test_a_stopped_service_finishes_its_calls_and_leaves_no_process(tmp_path: Path) -> None:
    service, outcomes = FunctionsService(tmp_path, KADUN_FUNCTION_SECONDS="60"), []
    with service.with_shop(), Rendezvous() as rendezvous:
        thread = threading.Thread(target=lambda: outcomes.append(service.call("等待", port=rendezvous.port)))
        thread.start()
        rendezvous.wait()
        service.process.terminate()
        wait_for(lambda: "Handling signal: term" in service.log.read_text())
        rendezvous.release()
        thread.join()
    assert outcomes == [Returned("done")]
    assert processes_in(service.modules) == []


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
