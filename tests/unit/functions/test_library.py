"""When the library loads the vendor's modules: a change, a failure, and a process that has ended."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from app.functions import library as module
from app.functions.library import Library, NotLoadedError
from app.functions.messages import Limits


class Loads:
    """Takes the place of `load`."""

    def __init__(self) -> None:
        self.times = 0
        self.fails = False

    def __call__(self, *_: object) -> SimpleNamespace:
        self.times += 1
        if self.fails:
            raise ValueError("no way")
        self.made = SimpleNamespace(functions={}, broken=[], has_ended=False, close=lambda: None)
        return self.made


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    made = Loads()
    monkeypatch.setattr(module, "load", made)
    return made


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path, Limits(5, 1, 1), None)  # type: ignore[arg-type]


def test_a_folder_is_loaded_when_it_has_changed_and_stays_so_until_the_next_look(
    library: Library, loads: Loads, tmp_path: Path
) -> None:
    with pytest.raises(NotLoadedError, match="not loaded yet"):
        library.listing()
    for _ in range(3):
        library.look()
    assert loads.times == library.listing().generation == 1
    (tmp_path / "shop.py").write_text("PRICE = 1")
    assert library.listing().loading
    library.look()
    (tmp_path / "shop.py").write_text("PRICE = 1.5")
    library.look()
    assert loads.times == 1, "it is being changed"
    library.look()
    assert (loads.times, library.listing().loading) == (2, False)


def test_a_failure_is_told_to_the_caller_of_reload_and_tried_again_after_a_pause(
    library: Library, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.look()
    loads.fails = True
    for times in (2, 3):
        with pytest.raises(NotLoadedError, match="cannot be loaded: ValueError: no way"):
            library.reload()
        library.look()
        assert loads.times == times
    assert library.listing().generation == 1, "what was loaded before is served"
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0)
    loads.fails = False
    library.look()
    assert library.listing().generation == 2
