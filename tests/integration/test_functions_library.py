"""Loading the vendor's modules, where a process does not do what it should."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.functions import generation
from app.functions.generation import load
from app.functions.guardian import Limits
from app.functions.library import Library, NotLoadedError, signature
from app.functions.modules import packages_dir
from tests.processes import processes_in
from tests.service import wait_for

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
    made = Library(folder, LIMITS)
    yield made
    made.close()
    assert processes_in(folder) == []


def test_a_module_that_hangs_deaf_to_signals_is_named_and_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "IMPORT_SECONDS", 1)
    monkeypatch.setattr(generation, "_MARGIN_SECONDS", 1)
    (folder / "deaf.py").write_text(
        "import signal, subprocess, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\n"
        "subprocess.Popen(['sleep', '600'], start_new_session=True)\ntime.sleep(600)\n"
    )
    loaded = load(folder, LIMITS)
    try:
        assert [(broken.module, broken.error) for broken in loaded.broken] == [("deaf", str(generation.HANGS))]
        assert list(loaded.functions) == ["good"]
        assert len(processes_in(folder)) == 1
    finally:
        loaded.close()
    assert processes_in(folder) == []


def test_what_cannot_be_loaded_now_is_loaded_later(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(generation, "PROJECT", Path("/nonexistent"))
        library.start()
        with pytest.raises(NotLoadedError):
            library.listing()
        with pytest.raises(NotLoadedError):
            library.call("good", REQUEST)
    assert library.reload().functions[0].name == "good"
    said = library.call("good", REQUEST)
    assert said is not None
    assert said.outcome == b'{"outcome":"ok","result":1}'


def test_a_zygote_that_does_not_start_is_an_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "PROJECT", tmp_path)  # there is no package app there
    with pytest.raises(OSError, match="does not start"):
        load(folder, LIMITS)


def test_a_reload_that_takes_too_long_says_so(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.functions.library.RELOAD_SECONDS", 0.1)
    with pytest.raises(NotLoadedError):
        library.reload()  # nobody has started it
    library.start()


def test_every_change_below_the_folder_is_seen(folder: Path) -> None:
    seen = [signature(folder)]

    def is_seen() -> bool:
        seen.append(signature(folder))
        return seen[-1] != seen[-2] and seen[-1] == signature(folder)

    (folder / "good.py").write_text(GOOD + "\n")
    assert is_seen()
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


def test_what_python_and_editors_leave_beside_modules_is_no_change(folder: Path) -> None:
    before = signature(folder)
    for name in ("__pycache__", ".git"):
        (folder / name).mkdir()
        (folder / name / "file").write_text("x")
    assert signature(folder) == before
    wait_for(lambda: signature(folder) == before)
