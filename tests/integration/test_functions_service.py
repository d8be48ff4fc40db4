"""The functions service as a whole: real processes, called over its socket; what misbehaves harms nobody else."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.functions.client import FunctionsBusyError, FunctionsUnavailableError
from app.functions.decorator import Caller
from app.functions.messages import Failed, Invalid, NotFound, Outcome, Returned, TimedOut
from app.functions.modules import packages_dir
from tests.support.functions_service import FunctionsService
from tests.support.processes import processes_in
from tests.support.service import ROOT, wait_for

CALLER = Caller("0" * 32, "1" * 32, None)
HOSTILE = ROOT / "tests/support/hostile_functions.py"
WELL = """
from app.functions import core_function

@core_function("well")
def well(arguments, caller):
    return arguments
"""


def with_hostile_functions(folder: Path, seconds: int) -> FunctionsService:
    service = FunctionsService(folder, KADUN_FUNCTION_SECONDS=str(seconds))
    (service.modules / "hostile.py").write_text(HOSTILE.read_text())
    (service.modules / "well.py").write_text(WELL)
    return service.with_shop()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsService]:
    """A service whose functions do what none should."""
    with with_hostile_functions(tmp_path_factory.mktemp("hostile"), 30) as service:
        yield service


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsService]:
    """The same, and each may take two seconds."""
    with with_hostile_functions(tmp_path_factory.mktemp("impatient"), 2) as service:
        yield service


@pytest.fixture
def service(tmp_path: Path) -> FunctionsService:
    made = FunctionsService(tmp_path, KADUN_FUNCTION_SECONDS="5")
    (made.modules / "well.py").write_text(WELL)
    return made


def call(service: FunctionsService, function: str, **arguments: object) -> Outcome:
    return service.client.call(function, arguments, CALLER)


def answers(service: FunctionsService) -> bool:
    try:
        service.client.list()
    except FunctionsUnavailableError:
        return False
    return True


def only_the_zygote_is_left(service: FunctionsService) -> bool:
    return len(processes_in(service.modules)) == 1


@pytest.mark.parametrize(
    "function", ["busy", "asleep", "deaf", "blocked in C", "printing", "descriptors closed, asleep"]
)
def test_what_does_not_end_is_a_timeout(impatient: FunctionsService, function: str) -> None:
    assert isinstance(call(impatient, function), TimedOut)
    wait_for(lambda: only_the_zygote_is_left(impatient))
    assert call(impatient, "well", a=1) == Returned({"a": 1})


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("exit", "its process ended with exit status 7"),
        ("exit well", "its process ended with exit status 0"),
        ("segfault", "its process was ended by SIGSEGV"),
        ("segfault", "Segmentation fault"),
        ("killed", "its process was ended by SIGKILL"),
        ("2 GiB", "MemoryError"),
        ("memory, bit by bit", "MemoryError"),
        ("100 MiB result", "in the memory of a call"),
        ("20 MiB result", "the result has 20,971,522 bytes as JSON: at most 262,144 are allowed"),
        ("result beyond memory", "in the memory of a call"),
        ("recursion", "RecursionError"),
        ("recursion in C", "its process was ended by SIGSEGV"),
        ("secret", "ValueError: hunter2"),
        ("leaves", "SystemExit: 0"),
        ("interrupted", "KeyboardInterrupt"),
        ("set", "Object of type set is not JSON serializable"),
        ("bytes", "Object of type bytes is not JSON serializable"),
        ("NaN", "the result is not JSON: Out of range float values are not JSON compliant"),
        ("surrogate", "a text in it contains a lone surrogate"),
        ("cycle", "Circular reference detected"),
        ("deep", "nested deeper than 64 levels"),
        ("very deep", "nested deeper than 64 levels"),
        ("numbers as keys", "an object has a key that is not a text"),
        ("huge number", "Exceeds the limit"),
        ("generator", "Object of type generator is not JSON serializable"),
        ("NUL in its message", "ValueError: a\\x00b\\ud800c"),
        ("cannot be shown", "OddError"),
        ("garbage in every descriptor", "its process wrote something that is not an outcome"),
        ("large file", "File too large"),
        ("200 processes", "it started more than 64 processes"),
        ("supervisor killed", "without an outcome"),
        ("shared memory", "it took more memory than a call may"),
    ],
)
def test_what_has_no_result_fails_and_says_why(hostile: FunctionsService, function: str, said: str) -> None:
    outcome = call(hostile, function)
    assert isinstance(outcome, Failed)
    assert said in outcome.detail
    assert len(outcome.detail) <= 4_000
    assert "\0" not in outcome.detail
    assert "app/functions" not in outcome.detail.partition("Extension modules")[0] or "Fatal Python" in outcome.detail
    wait_for(lambda: only_the_zygote_is_left(hostile))
    assert call(hostile, "well", a=1) == Returned({"a": 1})


@pytest.mark.parametrize("function", ["thread without end", "fork that returns", "output closed", "children that stay"])
def test_what_goes_on_after_its_result_is_ended_and_the_result_counts(hostile: FunctionsService, function: str) -> None:
    assert call(hostile, function) == Returned("done")
    wait_for(lambda: only_the_zygote_is_left(hostile))


def test_children_that_leave_their_session_end_with_a_call_that_hangs(impatient: FunctionsService) -> None:
    assert call(impatient, "children that stay, and hangs") == TimedOut()
    wait_for(lambda: only_the_zygote_is_left(impatient))


def test_a_call_sees_nothing_but_its_own(hostile: FunctionsService) -> None:
    outcome = call(hostile, "surroundings")
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
    assert seen["niceness"] == 10
    assert seen["oom_score_adj"] == "1000"
    assert seen["core"] == 0
    assert seen["leads a session"]
    assert seen["folder"] == str(hostile.modules)
    assert seen["threads"] == 1


def temporary_files(service: FunctionsService, told: Path, then: str) -> list[Path]:
    """Have a call write some, and return where: its folder for them, one in it, and a child's file."""
    with contextlib.suppress(FunctionsUnavailableError):
        call(service, "temporary files", told=str(told), then=then)
    written = [Path(name) for name in told.read_text().split()]
    assert len(written) == 3
    assert written[1].parent == written[2].parent == written[0]
    assert written[0].parent == Path("/tmp")
    return written


@pytest.mark.parametrize("then", ["returns", "raises", "exits", "hangs"])
def test_temporary_files_are_a_calls_own_and_gone_when_it_has_ended(
    impatient: FunctionsService, tmp_path: Path, then: str
) -> None:
    first = temporary_files(impatient, tmp_path / "first", then)
    assert not first[0].exists()
    assert temporary_files(impatient, tmp_path / "second", "returns")[0] != first[0]


def test_temporary_files_of_a_call_whose_guardian_was_killed_go_with_its_generation(
    service: FunctionsService, tmp_path: Path
) -> None:
    (service.modules / "hostile.py").write_text(HOSTILE.read_text())
    with service:
        written = temporary_files(service, tmp_path / "told", "kills its supervisor")
        assert written[0].exists()
        service.client.reload()
        wait_for(lambda: not written[0].exists())


def test_the_caller_is_told(hostile: FunctionsService) -> None:
    until = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
    outcome = hostile.client.call("caller", {}, Caller("A" * 32, "B" * 32, until))
    assert outcome == Returned(["A" * 32, "B" * 32, "2027-01-02 03:04:05+00:00"])
    assert hostile.client.call("caller", {}, CALLER) == Returned(["0" * 32, "1" * 32, "None"])


def test_arguments_that_do_not_fit_are_refused_with_the_fields_name(hostile: FunctionsService) -> None:
    assert call(hostile, "checked", amount=2, unit="kg") == Returned("2 kg")
    assert call(hostile, "checked", amount="2") == Invalid("arguments.amount", "Expected `int`, got `str`")
    assert call(hostile, "checked") == Invalid("arguments.amount", "Object missing required field `amount`")


def test_a_validation_error_of_the_functions_own_is_a_failure(hostile: FunctionsService) -> None:
    outcome = call(hostile, "validates itself")
    assert isinstance(outcome, Failed)
    assert "ValidationError" in outcome.detail


def test_a_function_that_is_not_there_is_not_found(hostile: FunctionsService) -> None:
    assert call(hostile, "no such thing") == NotFound()


def test_of_what_a_function_prints_the_end_is_logged_and_little_of_it(hostile: FunctionsService) -> None:
    assert call(hostile, "prints much") == Returned("done")
    line = wait_for(lambda: [line for line in hostile.log.read_text().splitlines() if '"prints much"' in line])[-1]
    assert "the end" in line
    assert len(line) < 1_500


def test_each_card_has_half_of_the_places_and_all_together_no_more_than_there_are(
    hostile: FunctionsService, tmp_path: Path
) -> None:
    outcomes = []

    def hold(card: str) -> threading.Thread:
        arguments = {"folder": str(tmp_path)}
        caller = Caller(card, "client", None)
        thread = threading.Thread(target=lambda: outcomes.append(hostile.client.call("等待", arguments, caller)))
        thread.start()
        return thread

    def are_held(calls: int) -> bool:
        return len(list(tmp_path.glob("begun-*"))) == calls

    started = [hold("first"), hold("first")]
    wait_for(lambda: are_held(2))
    with pytest.raises(FunctionsBusyError):
        hostile.client.call("well", {}, Caller("first", "client", None))
    assert hostile.client.call("well", {}, Caller("second", "client", None)) == Returned({})
    started += [hold("second"), hold("third")]
    wait_for(lambda: are_held(4))
    with pytest.raises(FunctionsBusyError):
        hostile.client.call("well", {}, Caller("fourth", "client", None))
    (tmp_path / "go").touch()
    for thread in started:
        thread.join()
    assert outcomes == [Returned("done")] * 4
    assert hostile.client.call("well", {}, Caller("first", "client", None)) == Returned({})


def test_broken_modules_are_named_and_harm_no_other(service: FunctionsService) -> None:
    for name, text in {
        "raises": "import well\nresult = 1 / 0",
        "syntax": "def f(:",
        "exits": "import os; os._exit(3)",
        "leaves": "import sys; sys.exit('no')",
        "crashes": "import ctypes; ctypes.string_at(0)",
        "json": "",
        "two words": "",
        "needs": "import no_such_package",
        "nameless": "from app.functions import core_function\n@core_function('')\ndef f(a, c): ...",
        "late": "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True); 1 / 0",
    }.items():
        (service.modules / f"{name}.py").write_text(text)
    (service.modules / "_helper.py").write_text("VALUE = 42")
    (service.modules / "package").mkdir()
    (service.modules / "package" / "__init__.py").write_text(
        "from _helper import VALUE\nfrom app.functions import core_function\n"
        "@core_function('packaged')\ndef f(arguments, caller): return VALUE\n"
    )
    with service:
        listing = service.client.list()
        errors = {broken.module: broken.error for broken in listing.broken}
        assert errors.keys() == {
            "raises", "syntax", "exits", "leaves", "crashes", "json", "two words", "needs", "nameless", "late"
        }  # fmt: skip
        assert "raises.py" in errors["raises"]
        assert "ZeroDivisionError" in errors["raises"]
        assert "SyntaxError" in errors["syntax"]
        assert errors["exits"].endswith("its process ended with exit status 3")
        assert "SystemExit: no" in errors["leaves"]
        assert "crashes.py" in errors["crashes"]
        assert errors["crashes"].endswith("its process was ended by SIGSEGV")
        assert "the name of another module already" in errors["json"]
        assert "no name for a module" in errors["two words"]
        assert "No module named 'no_such_package'" in errors["needs"]
        assert "1 to 64 characters" in errors["nameless"]
        assert [function.name for function in listing.functions] == ["packaged", "well"]
        assert call(service, "packaged") == Returned(42)
        assert call(service, "well") == Returned({})
        wait_for(lambda: only_the_zygote_is_left(service))


def test_a_name_given_twice_is_served_by_neither_and_both_are_named(service: FunctionsService) -> None:
    both = "from app.functions import core_function\n@core_function('twice')\ndef f(a, c): ...\n"
    (service.modules / "one.py").write_text(both)
    (service.modules / "other.py").write_text(both + "@core_function('once')\ndef g(a, c): return 1\n")
    with service:
        listing = service.client.list()
        assert [broken.module for broken in listing.broken] == ["one", "other"]
        assert all("one and other" in broken.error for broken in listing.broken)
        assert call(service, "twice") == NotFound()
        assert call(service, "once") == Returned(1)


def test_installed_packages_are_found(service: FunctionsService) -> None:
    packages = packages_dir(service.modules)
    packages.mkdir(parents=True)
    (packages / "tiny.py").write_text("VALUE = 'from the package'")
    (service.modules / "well.py").write_text(WELL.replace("return arguments", "import tiny; return tiny.VALUE"))
    with service:
        assert call(service, "well") == Returned("from the package")


def test_a_changed_folder_is_taken_up(service: FunctionsService) -> None:
    with service:
        assert call(service, "well") == Returned({})
        (service.modules / "well.py").write_text(WELL.replace("return arguments", "return 'changed'"))
        wait_for(lambda: call(service, "well") == Returned("changed"))
        (service.modules / "other.py").write_text(WELL.replace("well", "other"))
        wait_for(lambda: call(service, "other") == Returned({}))
        (service.modules / "well.py").unlink()
        wait_for(lambda: call(service, "well") == NotFound())
        wait_for(lambda: only_the_zygote_is_left(service))


def test_reloading_under_calls_drops_none(service: FunctionsService) -> None:
    (service.modules / "slow.py").write_text(
        "import time\nfrom app.functions import core_function\n"
        "@core_function('slow')\ndef f(arguments, caller):\n    time.sleep(0.3)\n    return 'done'\n"
    )
    stop = threading.Event()
    outcomes: list[Outcome] = []

    def keep_calling(card: str, function: str) -> None:
        while not stop.is_set():
            outcomes.append(service.client.call(function, {}, Caller(card, "client", None)))

    with service:
        callers = [
            threading.Thread(target=keep_calling, args=what) for what in (("1", "slow"), ("2", "slow"), ("3", "well"))
        ]
        for caller in callers:
            caller.start()
        before = service.client.list().generation
        generations = [service.client.reload().generation for _ in range(5)]
        stop.set()
        for caller in callers:
            caller.join()
        assert generations == list(range(before + 1, before + 6))
        assert len(outcomes) > 5
        assert {str(outcome) for outcome in outcomes} == {str(Returned("done")), str(Returned({}))}
        wait_for(lambda: only_the_zygote_is_left(service))


def hanging_call(service: FunctionsService) -> threading.Thread:
    """Start a call that hangs, with a child in a session of its own; return when both are there."""
    (service.modules / "hostile.py").write_text(HOSTILE.read_text())
    service.client.reload()
    wait_for(lambda: only_the_zygote_is_left(service))

    def hang() -> None:
        with contextlib.suppress(FunctionsUnavailableError):
            call(service, "children that stay, and hangs")

    thread = threading.Thread(target=hang)
    thread.start()
    wait_for(lambda: len(processes_in(service.modules)) >= 1 + 2 + 3)
    return thread


def test_a_killed_service_leaves_no_process(service: FunctionsService) -> None:
    with service:
        thread = hanging_call(service)
        service.process.kill()
        thread.join()
        wait_for(lambda: processes_in(service.modules) == [])


def test_a_killed_zygote_is_replaced_and_leaves_no_process(service: FunctionsService) -> None:
    with service:
        thread = hanging_call(service)
        os.kill(min(processes_in(service.modules)), signal.SIGKILL)
        thread.join()
        wait_for(lambda: answers(service) and generation(service) > 2)
        wait_for(lambda: only_the_zygote_is_left(service))
        assert call(service, "well") == Returned({})


def generation(service: FunctionsService) -> int:
    try:
        return service.client.list().generation
    except FunctionsBusyError:  # not loaded yet
        return 0


def test_a_killed_worker_is_replaced_and_leaves_no_process(service: FunctionsService) -> None:
    with service:
        thread = hanging_call(service)
        master = service.process.pid
        (worker,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        os.kill(int(worker), signal.SIGKILL)
        thread.join()
        wait_for(lambda: answers(service) and only_the_zygote_is_left(service))
        assert call(service, "well") == Returned({})


def test_a_service_that_is_stopped_finishes_its_calls_and_leaves_no_process(service: FunctionsService) -> None:
    (service.modules / "slow.py").write_text(
        "import time\nfrom app.functions import core_function\n"
        "@core_function('slow')\ndef f(arguments, caller):\n    time.sleep(2)\n    return 'done'\n"
    )
    outcomes = []
    with service:
        thread = threading.Thread(target=lambda: outcomes.append(call(service, "slow")))
        thread.start()
        wait_for(lambda: len(processes_in(service.modules)) == 3)
        service.stop()
        thread.join()
    assert outcomes == [Returned("done")]
    assert processes_in(service.modules) == []


def test_the_socket_is_its_groups_alone_and_its_path_may_be_long(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    with FunctionsService(folder) as service:
        assert service.socket.stat().st_mode & 0o007 == 0
        assert service.client.list().functions == []


def test_a_missing_folder_is_named(service: FunctionsService) -> None:
    (service.modules / "well.py").unlink()
    service.modules.rmdir()
    with service:
        (broken,) = service.client.list().broken
        assert "cannot be read" in broken.error
        service.modules.mkdir()
        (service.modules / "well.py").write_text(WELL)
        wait_for(lambda: call(service, "well") == Returned({}))


@pytest.mark.parametrize("name", ["DATABASE_URL", "KERNAL_DATA_KEY", "DATABASE_URL_FILE", "KERNAL_DATA_KEY_FILE"])
def test_where_a_secret_is_in_sight_the_service_does_not_start(service: FunctionsService, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--config", "python:app.functions.gunicorn_conf", "app.functions.wsgi:app"],
        cwd=ROOT,
        env={**service.environment, name: "secret"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"kadun: {name} is set: the functions service runs without secrets, take it away\n"


def test_a_service_that_is_away_is_unavailable(service: FunctionsService) -> None:
    with pytest.raises(FunctionsUnavailableError):
        service.client.list()
    with service:
        service.client.list()
    with pytest.raises(FunctionsUnavailableError):
        call(service, "well")
