"""The functions service loads and reloads the vendor's modules, and their packages are installed by pip."""
# Owns functions-reload.

import fcntl
import os
import subprocess
import sysconfig
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from app.domain.texts import RefusedError
from app.functions.decorator import Caller
from app.functions.messages import NotFound, Outcome, Returned
from app.functions.modules import packages_dir
from app.services.cards.requirements import install
from tests.support.services.functions_service import WELL, FunctionsService
from tests.support.services.service import wait_for
from tests.support.wheels import write_wheel

GOOD = """
from app.functions import core_function
import msgspec, typing
def good(arguments, caller): ...
core_function(__name__)(good)
"""
TWICE = "from app.functions import core_function\n@core_function('twice')\ndef f(a, c): ...\n"


@pytest.fixture
def service(tmp_path: Path) -> FunctionsService:
    return FunctionsService(tmp_path, KADUN_FUNCTION_SECONDS="60").with_module("well", WELL)


def test_broken_modules_are_listed_with_their_errors_and_others_work(service: FunctionsService) -> None:
    for name, text in {
        "raises": "import well\nresult = 1 / 0",
        "syntax": "def f(:",
        "exits": "import os; os._exit(3)",
        "leaves": "import sys; sys.exit('no')",
        "crashes": "import ctypes; ctypes.string_at(0)",
        "json": "",
        "two words": "",
        "needs": "import no_such_package",
        "one": TWICE,
        "other": TWICE + "@core_function('once')\ndef g(a, c): return 1\n",
        # What cannot be listed as JSON.
        "surrogate": GOOD + "core_function('c\\ud800')(good)",
        "title": GOOD + "schema = typing.Annotated[dict, msgspec.Meta(title='\\ud800')]\n"
        "core_function('x', schema=schema)(good)",
        "number": GOOD + "good.__module__ = 5",
        os.fsdecode(b"m\xff"): "",
        "described": GOOD + "good.__doc__ = 'about \\ud800'",
    }.items():
        (service.modules / f"{name}.py").write_text(text)
    service.with_module("_helper", "VALUE = 42")
    (service.modules / "package").mkdir()
    (service.modules / "package" / "__init__.py").write_text(
        "from _helper import VALUE\nfrom app.functions import core_function\n"
        "@core_function('packaged')\ndef f(arguments, caller): return VALUE\n"
    )
    with service:
        listing = service.client.list()
        errors = {broken.module: broken.error for broken in listing.broken}
        assert errors.keys() == {
            "raises", "syntax", "exits", "leaves", "crashes", "json", "two words", "needs", "one", "other",
            "surrogate", "title", "number", "m\\udcff",
        }  # fmt: skip
        assert "raises.py" in errors["raises"]
        assert "ZeroDivisionError" in errors["raises"]
        assert "SyntaxError" in errors["syntax"]
        assert errors["exits"].endswith("its process ended with exit status 3")
        assert "SystemExit: no" in errors["leaves"]
        assert "crashes.py" in errors["crashes"]
        assert errors["crashes"].endswith("its process was ended by SIGSEGV")
        assert "the name of another module already" in errors["json"]
        assert "cannot name a module" in errors["two words"]
        assert "No module named 'no_such_package'" in errors["needs"]
        assert "one and other" in errors["one"], "they have a function of the same name"
        assert errors["other"] == errors["one"]
        assert [function.name for function in listing.functions] == ["described", "once", "packaged", "well"]
        assert service.call("twice") == NotFound()
        assert service.call("packaged") == Returned(42)
        assert service.call("well") == Returned({})
        wait_for(service.is_idle)


def test_a_missing_folder_is_reported_and_what_appears_and_changes_in_it_is_loaded(service: FunctionsService) -> None:
    (service.modules / "well.py").unlink()
    service.modules.rmdir()
    with service:
        (broken,) = service.client.list().broken
        assert "cannot be read" in broken.error
        service.modules.mkdir()
        service.with_module("well", WELL)
        wait_for(lambda: service.call("well") == Returned({}))
        service.with_module("well", WELL.replace("return arguments", "return 'changed'"))
        wait_for(lambda: service.call("well") == Returned("changed"))
        wait_for(service.is_idle)


def test_reloading_drops_no_call(service: FunctionsService) -> None:
    service.with_module(
        "slow",
        "import time\nfrom app.functions import core_function\n"
        "@core_function('slow')\ndef f(arguments, caller):\n    time.sleep(0.3)\n    return 'done'\n",
    )
    stop = threading.Event()
    outcomes: list[Outcome] = []

    def keep_calling(card: str, function: str) -> None:
        while not stop.is_set():
            outcomes.append(service.client.call(function, {}, Caller(card, "client", None)).outcome)

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
        wait_for(service.is_idle)


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    folder = tmp_path / "functions"
    folder.mkdir()
    return folder


def require(functions: Path, text: str) -> None:
    (functions / "requirements.txt").write_text(text)


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
    assert {path.name for path in target.glob("*.py")} == {"tiny.py"}
    require(functions, "./other-2.0-py3-none-any.whl\n")
    assert install(functions) == target
    assert {path.name for path in target.glob("*.py")} == {"other.py"}
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    require(functions, "# nothing any more\n")
    assert list(install(functions).iterdir()) == []


def test_source_distributions_are_refused_because_building_them_runs_their_code(
    functions: Path, capfd: pytest.CaptureFixture[str]
) -> None:
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
    assert "PATH" in given
    assert "secret" not in given.values()


def test_two_installations_cannot_run_at_once(functions: Path) -> None:
    require(functions, "")
    folder = packages_dir(functions).parent
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(RefusedError, match="another installation"):
            install(functions)
    finally:
        os.close(handle)
