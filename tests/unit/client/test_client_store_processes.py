"""Several threads and processes use one state file; on Windows virus scanners open it, too."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import kadun
import pytest
from kadun import files as kadun_files
from kadun.partial_file import Offer, PartialFile
from kadun.store import Rejection, State, StateStore

from tests.support.client.fake_server import CARD, HARDWARE, NOW
from tests.support.client.file_server import CONTENT, NAME, SIZE, sha256
from tests.support.client.timing import SOON_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.client.customer_machine import Machine

SOURCE = Path(kadun.__file__).parent.parent


def test_processes_write_whole_files_and_take_turns_from_reading_to_writing(machine: Machine) -> None:
    """Each of two processes adds sixty to what it reads, and overwrites another file without a lock."""
    program = f"""
from kadun import files
from kadun.store import State, StateStore
files._LOCK_SECONDS = {SOON_SECONDS}
store, other = (StateStore({str(machine.folder)!r}, "kadun", "kadun", card) for card in ({CARD!r}, "other"))
for turn in range(60):
    with store.locked():
        state = store.load({HARDWARE!r})
        store.save(State((*state.endorsements, "x")), {HARDWARE!r})
    other.save(State(("x" * 5000,)), {HARDWARE!r})
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    other = StateStore(machine.folder, "kadun", "kadun", "other")
    writers = [subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(2)]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        seen.add(other.load(HARDWARE).endorsements)
    assert [writer.returncode for writer in writers] == [0, 0]
    seen.add(other.load(HARDWARE).endorsements)
    assert seen - {()} == {("x" * 5000,)}
    assert len(machine.store.load(HARDWARE).endorsements) == 120
    assert len(machine.files) == 2


def test_an_offline_start_waits_for_a_writing_process(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not write back the yes that it read before that process heard a no."""
    machine.open()
    monkeypatch.setattr(kadun_files, "_LOCK_SECONDS", SOON_SECONDS)
    outcome: list[bool] = []
    starting = threading.Thread(target=lambda: outcome.append(machine.starts_offline()))
    with machine.store.locked():
        starting.start()
        starting.join(0.3)
        assert starting.is_alive()
        machine.store.save(State(rejection=Rejection(NOW + 1, "REF45678")), HARDWARE)
    starting.join()
    assert outcome == [False]
    assert machine.store.load(HARDWARE).cached is None


def test_a_process_that_hangs_with_the_lock_blocks_nobody(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kadun_files, "_LOCK_SECONDS", 0.1)
    with machine.store.locked():
        machine.open()
        assert machine.starts_offline()


class Scanner:
    """It has a file open for so many tries; Windows neither replaces nor removes an open file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tries = 0.0
        monkeypatch.setattr(kadun_files, "_SCANNERS_SECONDS", SOON_SECONDS)
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(LK_NBLCK=2, locking=lambda *_arguments: None))
        for call in ("replace", "unlink"):
            monkeypatch.setattr(Path, call, self.refusing(getattr(Path, call)))

    def refusing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def refused(path: Path, *arguments: Any, **settings: Any) -> Any:
            if self.tries > 0 and path.exists():
                self.tries -= 1
                raise PermissionError(13, "The process cannot access the file because it is being used")
            return call(path, *arguments, **settings)

        return refused


@pytest.fixture
def scanner(monkeypatch: pytest.MonkeyPatch) -> Scanner:
    return Scanner(monkeypatch)


def test_a_virus_scanner_is_waited_for(machine: Machine, scanner: Scanner, tmp_path: Path) -> None:
    for state in (State(("x",)), State(("y",)), State()):  # made, replaced and removed
        scanner.tries = 5
        machine.store.save(state, HARDWARE)
        assert (machine.store.load(HARDWARE), scanner.tries) == (state, 0)
    with PartialFile(tmp_path / NAME, Offer(NAME, SIZE, sha256(CONTENT), "/", "REF45678")) as part:
        part.append(CONTENT)
        scanner.tries = 5
        assert part.install()
    assert ((tmp_path / NAME).read_bytes(), scanner.tries) == (CONTENT, 0)


def test_a_rejection_counts_even_if_the_file_can_be_neither_replaced_nor_removed(
    machine: Machine, scanner: Scanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.open()
    monkeypatch.setattr(kadun_files, "_SCANNERS_SECONDS", 0.1)
    scanner.tries = float("inf")
    machine.rejects()
    assert [path.stat().st_size for path in machine.files if path.suffix == ".state"] == [0]
    assert not machine.starts_offline()


def test_on_other_systems_a_failure_is_raised_at_once(
    scanner: Scanner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanner.tries = 5
    monkeypatch.setattr(sys, "platform", "linux")
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError):
        kadun_files.remove(tmp_path / "file")
    assert scanner.tries == 4
