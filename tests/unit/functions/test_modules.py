import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.functions import modules
from app.functions.messages import FunctionInfo


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> Iterator[None]:
    before, path = set(sys.modules), list(sys.path)
    modules.make_importable(tmp_path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def error_of(folder: Path, name: str, text: str) -> str | None:
    (folder / f"{name}.py").write_text(text)
    return modules.error_of_importing(name, folder, [])


def test_files_and_packages_are_modules_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "_helper.py", ".hidden.py", "notes.txt", "requirements.txt", "__init__.py"):
        (tmp_path / name).write_text("")
    for name in ("package", "_private", "data", "__pycache__", "folder.py"):
        (tmp_path / name).mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "_private" / "__init__.py").write_text("")
    assert modules.names_in(tmp_path) == ["a", "b", "package"]


def test_a_good_module_has_no_error(tmp_path: Path) -> None:
    assert error_of(tmp_path, "kadun_good", "x = 1") is None
    assert modules.error_of_importing("kadun_good", tmp_path, []) is None  # as after another module imported it


def test_a_traceback_begins_in_the_module(tmp_path: Path) -> None:
    error = error_of(tmp_path, "kadun_raises", "def f():\n    raise ValueError('a\\0b\\ud800')\nf()\n")
    assert error is not None
    assert error.startswith(f'Traceback (most recent call last):\n  File "{tmp_path}/kadun_raises.py", line 3')
    assert "importlib" not in error
    assert error.endswith("ValueError: a\\x00b\\ud800\n")


@pytest.mark.parametrize("name", ["two words", "1st", "a-b", "class", "x.y"])
def test_a_name_that_cannot_be_imported_is_refused(tmp_path: Path, name: str) -> None:
    error = error_of(tmp_path, name, "")
    assert error is not None
    assert "cannot name a module" in error


@pytest.mark.parametrize("name", ["json", "sys", "app", "msgspec", "colorsys"])
def test_a_module_cannot_replace_a_library(tmp_path: Path, name: str) -> None:
    error = error_of(tmp_path, name, "")
    assert error is not None
    assert "the name of another module already" in error


def test_an_import_that_hangs_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "IMPORT_SECONDS", 5)
    error = error_of(tmp_path, "kadun_hangs", "import time\ntime.sleep(600)\n")
    assert error is not None
    assert "time.sleep(600)" in error
    assert "its import is not done after" in error
    assert signal.alarm(0) == 0


def test_packages_are_installed_beside_the_folder_for_each_python() -> None:
    folder = modules.packages_dir(Path("/data/functions"))
    assert folder.parent == Path("/data/functions-packages")
    assert "cpython" in folder.name


def test_names_used_twice_are_found() -> None:
    once, twice, again = (
        FunctionInfo(name, module, None, "") for name, module in (("once", "a"), ("twice", "a"), ("twice", "b"))
    )
    assert dict(modules.named_twice([once, twice, again])) == {"twice": ["a", "b"]}
