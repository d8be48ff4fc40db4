"""Several threads and processes use one state file; on Windows virus scanners open it, too."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from kadun import CardRejected, Client, Heartbeat, UnsealFailed
from kadun import files as kadun_files
from kadun.partial_file import Offer, PartialFile
from kadun.store import Rejection, State, StateStore

from tests.support.client.fake_server import CARD, HARDWARE, NOW, FakeServer, reject, setting

if TYPE_CHECKING:
    from collections.abc import Callable

    from kadun.responses import Response

    from tests.support.client.offline import MakeClient

from tests.support.client.stored_state import ALLOWED, offline
from tests.support.client.timing import SOON_SECONDS

ROOT = Path(__file__).resolve().parents[3]


def begun_before(server: FakeServer, start: MakeClient, what_comes_between: Callable[[], None]) -> Client:
    """A client whose opening the server has answered already, when this happens before the answer arrives."""
    server.tweak = setting(offline_until=NOW + 86_400)

    def late(request: dict[str, Any]) -> Response:
        answer = server.genuine(request)
        what_comes_between()
        return answer

    server.script = [late]
    return start()


def refuse(client: Client, server: FakeServer, at: int = NOW + 1) -> None:
    def no(claims: dict[str, Any]) -> None:
        reject("CARD_FROZEN")(claims)
        claims.update(iat=at, exp=at + 300)

    server.tweak = no
    with pytest.raises(CardRejected):
        client.report("心跳")


@pytest.mark.parametrize("at", [NOW, NOW + 1])
@pytest.mark.parametrize("openings_before", [0, 1])
def test_a_later_rejection_in_another_process_is_not_undone_by_an_acceptance_in_progress(
    at: int, openings_before: int, start: MakeClient, server: FakeServer, store: StateStore
) -> None:
    server.tweak = ALLOWED
    for _ in range(openings_before):
        start().open()
    client = begun_before(server, start, lambda: refuse(start(), server, at))
    assert client.open().accepted  # its own answer was a genuine yes
    assert store.load(HARDWARE).cached is None
    assert not offline(start(), server)
    assert not offline(client, server)
    server.tweak = ALLOWED  # unfrozen: even if no second has passed
    start().open()
    assert offline(start(), server)


def test_an_earlier_rejection_does_not_prevent_a_later_acceptance(start: MakeClient, server: FakeServer) -> None:
    client = begun_before(server, start, lambda: refuse(start(), server, NOW - 1))
    client.open()
    assert offline(start(), server)


def test_a_rejection_of_the_heartbeat_ends_an_opening_in_progress(start: MakeClient, server: FakeServer) -> None:
    server.tweak = ALLOWED
    client = start()
    client.open()
    refused: list[str] = []
    heard = threading.Event()

    def hear(no: CardRejected) -> None:
        refused.append(no.code)
        heard.set()

    def beat() -> None:
        def no(claims: dict[str, Any]) -> None:
            reject("CARD_FROZEN")(claims)
            claims.update(iat=NOW + 1, exp=NOW + 301)

        server.tweak = no
        with Heartbeat(client, on_rejected=hear):
            assert heard.wait(SOON_SECONDS)

    def late(request: dict[str, Any]) -> Response:
        answer = server.genuine(request)
        beat()
        return answer

    server.script = [late]
    with pytest.raises(CardRejected) as caught:
        client.open()
    assert [caught.value.code] == refused == ["CARD_FROZEN"]
    with pytest.raises(UnsealFailed):
        client.unseal(io.BytesIO(b""))
    assert not offline(client, server)
    server.tweak = ALLOWED  # unfrozen
    assert client.open().accepted


def test_processes_take_turns_from_reading_the_file_to_writing_it(store: StateStore, folder: Path) -> None:
    """Each of two processes adds a hundred to what it reads; without the lock some are lost."""
    program = f"""
from kadun import files
from kadun.store import State, StateStore
files._LOCK_SECONDS = {SOON_SECONDS}
store = StateStore({str(folder)!r}, "kadun", "kadun", {CARD!r})
for turn in range(100):
    with store.locked():
        state = store.load({HARDWARE!r})
        store.save(State((*state.endorsements, "x")), {HARDWARE!r})
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client" / "src")}
    writers = [subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(store.load(HARDWARE).endorsements) == 200


def test_an_offline_start_waits_for_the_process_that_is_writing(
    start: MakeClient, server: FakeServer, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not write back the yes that it read before that process heard a no."""
    server.tweak = ALLOWED
    start().open()
    monkeypatch.setattr(kadun_files, "_LOCK_SECONDS", SOON_SECONDS)
    outcome: list[bool] = []
    client = start()
    starting = threading.Thread(target=lambda: outcome.append(offline(client, server)))
    with store.locked():
        starting.start()
        starting.join(0.3)
        assert starting.is_alive()
        store.save(State(rejection=Rejection(NOW + 1, "REF45678")), HARDWARE)
    starting.join()
    assert outcome == [False]
    assert store.load(HARDWARE).cached is None


def test_a_process_that_hangs_with_the_lock_does_not_block_others(
    start: MakeClient, server: FakeServer, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kadun_files, "_LOCK_SECONDS", 0.1)
    server.tweak = ALLOWED
    with store.locked():
        start().open()
        assert offline(start(), server)


class Scanner:
    """It has a file open for so many tries; Windows neither replaces nor removes an open file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tries: float) -> None:
        self.tries = tries
        monkeypatch.setattr(kadun_files, "_SCANNERS_SECONDS", SOON_SECONDS if tries < float("inf") else 0.1)
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


def test_a_virus_scanner_is_waited_for(
    start: MakeClient, server: FakeServer, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.tweak = ALLOWED
    scanner = Scanner(monkeypatch, tries=5)
    start().open()
    assert scanner.tries == 0
    assert store.load(HARDWARE).cached is not None
    scanner.tries = 5
    store.save(State(), HARDWARE)
    assert store.load(HARDWARE) == State()


def test_a_rejection_counts_even_if_the_file_can_be_neither_replaced_nor_removed(
    start: MakeClient, server: FakeServer, store: StateStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.tweak = ALLOWED
    start().open()
    Scanner(monkeypatch, tries=float("inf"))
    refuse(start(), server)
    assert [path.stat().st_size for path in folder.iterdir() if path.suffix == ".state"] == [0]
    assert not offline(start(), server)


def test_a_download_is_put_in_place_once_the_scanner_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"the model"
    target = tmp_path / "model.bin"
    scanner = Scanner(monkeypatch, tries=0)
    offer = Offer("model.bin", len(content), hashlib.sha256(content).hexdigest(), "/v1/files/model.bin", "REF45678")
    with PartialFile(target, offer) as part:
        part.append(content)
        scanner.tries = 5
        assert part.install()
    assert target.read_bytes() == content


def test_on_other_systems_a_failure_is_raised_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanner = Scanner(monkeypatch, tries=5)
    monkeypatch.setattr(sys, "platform", "linux")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(PermissionError):
        kadun_files.remove(file)
    assert scanner.tries == 4
