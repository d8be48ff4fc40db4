"""The library: loading, reloading and restarting the vendor's modules when something goes wrong."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from app.functions import generation
from app.functions import library as library_module
from app.functions.concurrency import Slot
from app.functions.folder import signature
from app.functions.generation import load
from app.functions.library import Library, NotLoadedError
from app.functions.modules import packages_dir
from app.functions.monitor import Limits
from tests.support.processes import processes_in
from tests.support.service import wait_for
from tests.support.tables import for_each
from tests.support.zygotes import launcher

LIMITS = Limits(5, 64 * 1024**2, 1000)
GOOD = """
from app.functions import core_function
@core_function("good")
def good(arguments, caller): return 1
"""
REQUEST = b'{"function":"good","arguments":{},"caller":{"card_id":"a","client_id":"b","expires_at":null}}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "functions"
    folder.mkdir()
    (folder / "good.py").write_text(GOOD)
    return folder


@pytest.fixture
def library(folder: Path) -> Iterator[Library]:
    made = Library(folder, LIMITS, launcher())
    yield made
    made.close()
    wait_for(lambda: processes_in(folder) == [])  # loading may have been in progress


def test_a_module_that_blocks_signals_and_hangs_is_ended_and_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "IMPORT_SECONDS", 5)
    monkeypatch.setattr(generation, "_MARGIN_SECONDS", 1)
    (folder / "deaf.py").write_text(
        "import signal, subprocess, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\n"
        "subprocess.Popen(['sleep', '600'], start_new_session=True)\ntime.sleep(600)\n"
    )
    loaded = load(folder, LIMITS, launcher())
    try:
        assert [(broken.module, broken.error) for broken in loaded.broken] == [("deaf", str(generation.HANGS))]
        assert list(loaded.functions) == ["good"]
        assert len(processes_in(folder)) == 1
    finally:
        loaded.close()
    assert processes_in(folder) == []


class Failing:
    """Replaces `load` with a failure."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, *_: object) -> NoReturn:
        self.times += 1
        raise ValueError("no way")


def test_a_failure_to_load_is_reported_to_the_caller_of_reload_and_not_retried_at_once(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing()
    monkeypatch.setattr("app.functions.library._SCAN_SECONDS", 600)
    with monkeypatch.context() as patch:
        patch.setattr("app.functions.library.load", failing)
        library.start()
        wait_for(lambda: failing.times == 1)
        for times in (2, 3):
            with pytest.raises(NotLoadedError, match="cannot be loaded: ValueError: no way"):
                library.reload()
            assert failing.times == times
    assert library.reload().functions[0].name == "good"


def test_a_change_that_failed_to_load_is_loaded_later(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.start()
    library.reload()
    failing = Failing()
    with monkeypatch.context() as patch:
        patch.setattr("app.functions.library.load", failing)
        (folder / "other.py").write_text(GOOD.replace('"good"', '"other"'))
        wait_for(lambda: failing.times)
        assert library.call("good", REQUEST, Slot(0)) is not None
    wait_for(lambda: [function.name for function in library.listing().functions] == ["good", "other"])


ODD = {
    "a docstring that is not UTF-8": ("f.__doc__ = 'about \\ud800'", []),
    "a docstring that is not a text": ("f.__doc__ = 5", []),
    "a name that is not UTF-8": ("core_function('mm\\ud800')(f)", ["mmm"]),
    "a schema that is not UTF-8": (
        "import msgspec, typing as t\ncore_function('x', schema=t.Annotated[dict, msgspec.Meta(title='\\ud800')])(f)",
        ["mmm"],
    ),
    "a module name that is not a text": ("f.__module__ = 5", ["mmm"]),
}


@for_each("odd, blamed", ODD.values())
def test_a_function_whose_description_is_not_json_breaks_its_own_module_only(
    folder: Path, odd: str, blamed: list[str]
) -> None:
    for name, more in (("aaa", ""), ("mmm", odd), ("zzz", "")):
        text = GOOD.replace('"good"', f'"{name}"').replace("def good", "def f")
        (folder / f"{name}.py").write_text(text + more)
    loaded = load(folder, LIMITS, launcher())
    try:
        assert [broken.module for broken in loaded.broken] == blamed
        assert list(loaded.functions) == [name for name in ("aaa", "good", "mmm", "zzz") if name not in blamed]
    finally:
        loaded.close()


def test_a_file_whose_name_is_not_utf_8_is_a_broken_module_and_others_work(folder: Path) -> None:
    (folder / os.fsdecode(b"m\xff.py")).write_text(GOOD)
    (folder / os.fsdecode(b"p\xff")).mkdir()
    (folder / os.fsdecode(b"p\xff") / "__init__.py").write_text("")
    loaded = load(folder, LIMITS, launcher())
    try:
        assert [broken.module for broken in loaded.broken] == ["m\\udcff", "p\\udcff"]
        assert all("cannot name a module" in broken.error for broken in loaded.broken)
        assert list(loaded.functions) == ["good"]
    finally:
        loaded.close()


def test_every_change_below_the_folder_changes_the_signature(folder: Path) -> None:
    seen = [signature(folder)]

    def is_seen() -> bool:
        seen.append(signature(folder))
        return seen[-1] != seen[-2] and seen[-1] == signature(folder)

    (folder / "good.py").write_text(GOOD + "\n")
    assert is_seen()
    (folder / "good.py").chmod(0o600)
    assert is_seen()
    (folder.parent / "exported.py").hardlink_to(folder / "good.py")
    assert not is_seen(), "export.sh makes hard links"
    (folder / "package").mkdir()
    (folder / "package" / "table.json").write_text("{}")
    assert is_seen()
    (folder / "package" / "table.json").write_text("[]")
    assert is_seen()
    (folder / "package" / "link").symlink_to("nowhere")
    assert is_seen()
    packages_dir(folder).mkdir(parents=True)
    assert is_seen()
    (folder / "good.py").rename(folder / "better.py")
    assert is_seen()


def test_links_to_the_folder_caches_and_temporary_files_of_editors_do_not_change_the_signature(folder: Path) -> None:
    (folder / "again").symlink_to(folder)
    assert {entry[0] for entry in signature(folder)} == {str(folder / "good.py"), str(packages_dir(folder))}
    (folder / "and_again").symlink_to("again")
    before = signature(folder)
    assert len(before) == 2
    for name in ("__pycache__", ".git"):
        (folder / name).mkdir()
        (folder / name / "file").write_text("x")
    for name in (".good.py.swp", "good.py~", "#good.py#"):
        (folder / name).write_text("x")
    assert signature(folder) == before


@pytest.mark.nightly
def test_a_module_that_keeps_ending_the_process_is_loaded_less_and_less_often(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "ends.py").write_text("import os, threading\nthreading.Timer(3, os._exit, [7]).start()\n")
    pauses: list[float] = []
    backoff = library_module._Backoff  # noqa: SLF001
    monkeypatch.setattr(backoff, "is_over", property(lambda self: pauses.append(self._pause)))
    library.start()

    def end() -> str:
        try:
            library.listing()
        except NotLoadedError as error:
            return str(error)
        return ""

    wait_for(lambda: "exit status 7" in end())
    with pytest.raises(NotLoadedError):
        library.call("good", REQUEST, Slot(0))
    library.reload()  # does not wait
    wait_for(lambda: 3.0 in pauses)
    assert list(dict.fromkeys(pauses))[:3] == [0.0, 1.0, 3.0]
    (folder / "ends.py").unlink()
    wait_for(lambda: end() == "" and library.call("good", REQUEST, Slot(0)))
