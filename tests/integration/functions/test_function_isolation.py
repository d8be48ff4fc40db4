"""Functions: hostile ones reach only their own place, what fails or ends leaves no process, modules are loaded, and pip
installs packages."""
# Owns functions-isolation, functions-failures, functions-reload.

import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.domain.texts import RefusedError
from app.functions.call import MAX_DETAIL
from app.functions.client import FunctionsBusyError, FunctionsUnavailableError
from app.functions.decorator import Caller
from app.functions.messages import Failed, NotFound, Outcome, Returned, TimedOut
from app.functions.places import IDS
from app.services.cards.requirements import install
from tests.support.functions import hostile_functions
from tests.support.services.functions_service import FUNCTION_SECONDS, WELL, FunctionsService, Rendezvous, write_wheel
from tests.support.services.processes import children_of, processes_in, users_of
from tests.support.services.service import ROOT, wait_for

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give calls user IDs; the containers do")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsService]:
    """A service with misbehaving functions, which as root has user IDs for calls, and a private file beside it."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "private").write_text("the service's own")
    (folder / "private").chmod(0o600)
    with FunctionsService(folder, KADUN_FUNCTION_SECONDS="120").with_hostile_functions() as service:
        yield service


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsService]:
    """A service with misbehaving functions, and a short time limit."""
    folder = tmp_path_factory.mktemp("impatient")
    with FunctionsService(folder, KADUN_FUNCTION_SECONDS=str(FUNCTION_SECONDS)).with_hostile_functions() as service:
        yield service


def test_functions_that_do_not_end_time_out_and_leave_no_process(impatient: FunctionsService) -> None:
    silent = ["deaf", "printing", "children that stay, and hangs"]
    for some in (silent, ["blocked in C", "descriptors closed, asleep"]):
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
def test_a_function_without_a_result_fails_with_the_reason(hostile: FunctionsService, function: str, said: str) -> None:
    outcome = hostile.call(function)
    assert isinstance(outcome, Failed)
    assert said in outcome.detail
    assert len(outcome.detail) <= 4_000
    assert "\0" not in outcome.detail
    assert "app/functions" not in outcome.detail.partition("Extension modules")[0] or "Fatal Python" in outcome.detail
    wait_for(hostile.is_idle)
    assert hostile.call("well", a=1) == Returned({"a": 1})


def test_what_a_function_writes_as_its_outcome_is_checked_and_bounded(hostile: FunctionsService) -> None:
    for text in ("{}}", "\xff" * 50_000, "\n"):
        outcome = hostile.call("writes its outcome itself", text=text)
        assert isinstance(outcome, Failed), text
        assert "its process ended without a valid outcome" in outcome.detail, text
    for kind in (Failed, TimedOut):
        text = msgspec.json.encode(kind("x" * 30_000 + "\0end")).decode()
        forged = hostile.call("writes its outcome itself", text=text)
        assert isinstance(forged, kind)
        assert (len(forged.detail), forged.detail[-8:]) == (MAX_DETAIL, "x\\x00end")


def test_processes_and_threads_that_outlive_the_result_are_ended(hostile: FunctionsService) -> None:
    for function in ("thread without end", "fork that returns", "output closed", "children that stay"):
        assert hostile.call(function) == Returned("done"), function
        wait_for(hostile.is_idle)


def test_a_call_runs_in_a_minimal_environment(hostile: FunctionsService) -> None:
    outcome = hostile.call("surroundings")
    assert isinstance(outcome, Returned)
    seen = outcome.result
    threads = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    python = {"PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER", "PYTHONUNBUFFERED"}
    assert set(seen.pop("environment")) == {"PATH", "HOME", "LANG", "TMPDIR"} | threads | python
    assert sorted(seen.pop("descriptors")) == ["/dev/null", "pipe", "pipe", "pipe"], "the last is the result's"
    own = {"leads a session": True, "folder": str(hostile.modules), "threads": 1}
    assert seen == {"niceness": 19, "oom_score_adj": "1000", "core": 0, **own}


def temporary_files(service: FunctionsService, then: str) -> list[Path]:
    """Have a call write some; return its temporary folder, one inside it, and a child's file."""
    with Rendezvous() as rendezvous:
        service.call("temporary files", port=rendezvous.port, then=then)
        written = [Path(name) for name in rendezvous.report().split()]
    assert len(written) == 3
    assert [path.parent for path in written] == [Path("/tmp"), written[0], written[0]]
    return written


def test_each_call_has_its_own_temporary_folder_which_is_removed(impatient: FunctionsService) -> None:
    for then in ("returns", "exits", "hangs"):
        first = temporary_files(impatient, then)
        assert not first[0].exists(), then
        assert temporary_files(impatient, "returns")[0] != first[0], then


def test_only_the_end_of_what_a_function_prints_is_logged(hostile: FunctionsService) -> None:
    assert hostile.call("prints much") == Returned("done")
    line = wait_for(lambda: [line for line in hostile.log.read_text().splitlines() if '"prints much"' in line])[-1]
    assert ("the end" in line, len(line) < 1_500) == (True, True)


@pytest.fixture
def service(tmp_path: Path) -> FunctionsService:
    return FunctionsService(tmp_path, KADUN_FUNCTION_SECONDS="5").with_module("well", WELL)


class Victim:
    """A customer's call that is under way."""

    def __init__(self, service: FunctionsService, *, has_child: bool = False) -> None:
        self._rendezvous = Rendezvous()
        self._outcomes: list[Outcome] = []
        arguments = {"secret": hostile_functions.SECRET, "port": self._rendezvous.port, "has_child": has_child}
        caller = Caller("v" * 32, "v" * 32, None)
        self._thread = threading.Thread(
            target=lambda: self._outcomes.append(service.client.call("victim", arguments, caller, "192.0.2.1").outcome)
        )
        self._thread.start()
        self.folder = Path(self._rendezvous.report())

    def outcome(self) -> Outcome:
        self.close()
        return self._outcomes[0]

    def close(self) -> None:
        self._rendezvous.close()
        self._thread.join()


@pytest.mark.parametrize("killed", ["service", "zygote", "server"])
def test_a_killed_process_or_service_leaves_no_process(service: FunctionsService, killed: str) -> None:
    def hang() -> None:
        with contextlib.suppress(FunctionsUnavailableError):
            service.call("children that stay, and hangs")

    def is_replaced() -> bool:
        with contextlib.suppress(FunctionsBusyError):  # not loaded yet
            return service.answers() and (killed == "server" or service.client.list().generation > 2)
        return False

    with service:
        service.with_hostile_functions()
        service.client.reload()
        wait_for(service.is_idle)
        (zygote,) = processes_in(service.modules)
        thread = threading.Thread(target=hang)
        thread.start()
        wait_for(lambda: len(processes_in(service.modules)) >= 1 + 2 + 3)  # the call's, with sessions of their own
        (server,) = {*children_of(service.process.pid)} - {zygote}
        os.kill({"service": service.process.pid, "zygote": zygote, "server": server}[killed], signal.SIGKILL)
        thread.join()
        if killed == "service":
            wait_for(lambda: processes_in(service.modules) == [])
        else:
            wait_for(is_replaced)
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
    command = [sys.executable, "-m", "app.functions"]
    environment = service.environment | {"DATABASE_URL": "secret"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert done.stderr == "kadun: DATABASE_URL is set: the functions service runs without secrets, take it away\n"


@NEEDS_ROOT
@pytest.mark.parametrize("function", hostile_functions.NOTHING)
def test_a_hostile_function_reaches_nothing_but_its_own_place(hostile: FunctionsService, function: str) -> None:
    first_uid, private = int(hostile.environment["KADUN_FUNCTION_FIRST_UID"]), hostile.modules.parent / "private"
    with contextlib.closing(Victim(hostile)) as victim:
        paths = [str(private), str(victim.folder), "/root", "/etc/shadow", "/proc/1/root", "/proc/1/cwd/"]
        outcome = hostile.call(function, socket=str(hostile.socket), first_uid=first_uid, paths=paths)
        assert outcome == Returned([])
        assert victim.outcome() == Returned(hostile_functions.SECRET)
    wait_for(hostile.is_idle)
    wait_for(lambda: users_of(range(first_uid, first_uid + IDS)) == [])
    assert hostile.call("finds what others left", first_uid=first_uid) == Returned([])
    assert (hostile.socket.stat().st_uid, hostile.socket.stat().st_mode & 0o007) == (0, 0)


@NEEDS_ROOT
def test_a_call_whose_supervisor_dies_is_ended_and_its_place_cleared(tmp_path: Path) -> None:
    with FunctionsService(tmp_path).with_hostile_functions() as service:
        first = int(service.environment["KADUN_FUNCTION_FIRST_UID"])
        ids = range(first, first + IDS)
        with contextlib.closing(Victim(service, has_child=True)) as victim:
            (supervisor,) = [of for of in users_of(ids) if any(children_of(child) for child in children_of(of))]
            os.kill(supervisor, signal.SIGKILL)
            assert isinstance(victim.outcome(), Failed)
        wait_for(lambda: len(users_of(ids)) == 1)  # the child
        assert victim.folder.exists()
        assert service.call("reads files", paths=[str(victim.folder)]) == Returned([]), "cleared before the next call"
        wait_for(lambda: users_of(ids) == [])
        assert not victim.folder.exists()


@NEEDS_ROOT
def test_without_user_ids_calls_have_the_services_user_and_the_start_says_so(tmp_path: Path) -> None:
    with FunctionsService(tmp_path, KADUN_FUNCTION_FIRST_UID="").with_module("well", WELL) as service:
        said = "functions are not isolated from one another: KADUN_FUNCTION_FIRST_UID is not set"
        assert said in service.log.read_text()
        assert wait_for(lambda: service.call("well")) == Returned({})


TWICE = "from app.functions import core_function\n@core_function('twice')\ndef f(a, c): ...\n"
GOOD = """
from app.functions import core_function
import msgspec, typing
def good(arguments, caller): ...
core_function(__name__)(good)
"""


@pytest.fixture
def loaded(tmp_path: Path) -> FunctionsService:
    return FunctionsService(tmp_path, KADUN_FUNCTION_SECONDS="60").with_module("well", WELL)


def test_broken_modules_are_listed_with_their_errors_and_others_work(loaded: FunctionsService) -> None:
    broken = {
        "raises": ("import well\nresult = 1 / 0", "ZeroDivisionError"),
        "syntax": ("def f(:", "SyntaxError"),
        "exits": ("import os; os._exit(3)", "its process ended with exit status 3"),
        "leaves": ("import sys; sys.exit('no')", "SystemExit: no"),
        "crashes": ("import ctypes; ctypes.string_at(0)", "its process was ended by SIGSEGV"),
        "json": ("", "the name of another module already"),
        "two words": ("", "cannot name a module"),
        "needs": ("import no_such_package", "No module named 'no_such_package'"),
        "one": (TWICE, "one and other"),  # they have a function of the same name
        "other": (TWICE + "@core_function('once')\ndef g(a, c): return 1\n", "one and other"),
        "surrogate": (GOOD + "core_function('c\\ud800')(good)", ""),  # this and the next three: no text for JSON
        "title": (GOOD + "core_function('x', schema=typing.Annotated[dict, msgspec.Meta(title='\\ud800')])(good)", ""),
        "number": (GOOD + "good.__module__ = 5", ""),
        "m\udcff": ("", ""),
    }
    for name, (text, _error) in broken.items():
        (loaded.modules / f"{name}.py").write_text(text)
    loaded.with_module("described", GOOD + "good.__doc__ = 'about \\ud800'")
    loaded.with_module("_helper", "VALUE = 42")
    (loaded.modules / "package").mkdir()
    (loaded.modules / "package" / "__init__.py").write_text(
        "from _helper import VALUE\nfrom app.functions import core_function\n"
        "@core_function('packaged')\ndef f(arguments, caller): return VALUE\n"
    )
    with loaded:
        listing = loaded.client.list()
        errors = {module.module: module.error for module in listing.broken}
        assert errors.keys() == {name.encode("utf-8", "backslashreplace").decode() for name in broken}
        assert not [(name, errors[name]) for name in errors.keys() & broken if broken[name][1] not in errors[name]]
        assert all(f"{name}.py" in errors[name] for name in ("raises", "crashes"))
        assert errors["other"] == errors["one"]
        assert [function.name for function in listing.functions] == ["described", "once", "packaged", "well"]
        assert loaded.call("twice") == NotFound()
        assert loaded.call("packaged") == Returned(42)
        assert loaded.call("well") == Returned({})
        wait_for(loaded.is_idle)


def test_a_missing_folder_is_reported_and_what_appears_and_changes_in_it_is_loaded(loaded: FunctionsService) -> None:
    (loaded.modules / "well.py").unlink()
    loaded.modules.rmdir()
    with loaded:
        (broken,) = loaded.client.list().broken
        assert "cannot be read" in broken.error
        loaded.modules.mkdir()
        loaded.with_module("well", WELL)
        wait_for(lambda: loaded.call("well") == Returned({}))
        loaded.with_module("well", WELL.replace("return arguments", "return 'changed'"))
        wait_for(lambda: loaded.call("well") == Returned("changed"))
        wait_for(loaded.is_idle)


def test_reloading_drops_no_call(loaded: FunctionsService) -> None:
    slow = f"import time\n{WELL}".replace('"well"', '"slow"').replace("return", "time.sleep(0.3)\n    return")
    loaded.with_module("slow", slow)
    stop = threading.Event()
    outcomes: list[Outcome] = []

    def keep_calling(card: str, function: str) -> None:
        while not stop.is_set():
            outcomes.append(loaded.client.call(function, {}, Caller(card, "client", None)).outcome)

    with loaded, ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(keep_calling, *what) for what in (("1", "slow"), ("2", "slow"), ("3", "well"))]
        before = loaded.client.list().generation
        generations = [loaded.client.reload().generation for _ in range(5)]
        stop.set()
        for caller in callers:
            caller.result()
        assert generations == list(range(before + 1, before + 6))
        assert len(outcomes) > 5
        assert {str(outcome) for outcome in outcomes} == {str(Returned({}))}
        wait_for(loaded.is_idle)


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    folder = tmp_path / "functions"
    folder.mkdir()
    return folder


def require(functions: Path, text: str) -> None:
    (functions / "requirements.txt").write_text(text)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.py")}


def test_the_installed_packages_are_those_of_the_file_and_a_failure_leaves_the_old_ones(functions: Path) -> None:
    (functions / "json.py").write_text("raise SystemExit('the vendor has a json.py, and pip its own')")
    write_wheel(functions, "1.0")
    write_wheel(functions, "2.0", name="other")
    require(functions, "./tiny-1.0-py3-none-any.whl\n")
    target = install(functions)
    assert target == functions.parent / "functions-packages" / sysconfig.get_config_var("SOABI")
    assert (target / "tiny.py").read_text() == 'VERSION = "1.0"\n'
    assert (target / "tiny.py").stat().st_mode & 0o444 == 0o444
    require(functions, "./other-2.0-py3-none-any.whl\n./missing-1.0-py3-none-any.whl\n")
    with pytest.raises(RefusedError, match="nothing was changed"):
        install(functions)
    assert names(target) == {"tiny.py"}
    require(functions, "./other-2.0-py3-none-any.whl\n")
    assert install(functions) == target
    assert names(target) == {"other.py"}
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    require(functions, "# nothing any more\n")
    assert list(install(functions).iterdir()) == []


def test_source_distributions_which_run_code_are_refused(functions: Path, capfd: pytest.CaptureFixture[str]) -> None:
    setup = functions / "setup.py"
    setup.write_text("raise SystemExit('this ran')")
    with tarfile.open(functions / "evil-1.0.tar.gz", "w:gz") as archive:
        archive.add(setup, "evil-1.0/setup.py")
    require(functions, "--no-index\n--find-links .\nevil\n")
    with pytest.raises(RefusedError, match="pip failed"):
        install(functions)
    assert "No matching distribution found for evil" in capfd.readouterr().err


def test_pip_is_given_no_setting_and_none_of_our_modules(functions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, str] = {}

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        given.update(options["env"])
        return subprocess.CompletedProcess(command, 0)

    for name in ("KERNAL_DATA_KEY", "DATABASE_URL", "KADUN_SEALING_KEY", "KADUN_FILES_BUCKET_SECRET", "PYTHONPATH"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setattr(subprocess, "run", run)
    require(functions, "")
    install(functions)
    assert ("PATH" in given, "secret" in given.values()) == (True, False)
