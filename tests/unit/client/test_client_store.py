"""The state file: encrypted, atomic, private, and optional; several processes and virus scanners use it, too."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import kadun
import pytest
from kadun import PLATFORM_FOLDER, CardRejected, Client, Secret, ServerUnreachable
from kadun import files as kadun_files
from kadun.clocks import Times
from kadun.floor import Floor
from kadun.partial_file import Offer, PartialFile
from kadun.store import CachedVerdict, Rejection, State, StateStore

from tests.support.client.fake_server import CARD, HARDWARE, NOW, FakeServer, reject, setting
from tests.support.client.offline import MakeClient, no_network
from tests.support.client.stored_state import ALLOWED, full_disk, offline, only_file, state_files
from tests.support.client.timing import SOON_SECONDS
from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024 * 1024
SOURCE = Path(kadun.__file__).parent.parent
ONE = State(("x",))


@pytest.fixture
def opened(start: MakeClient, server: FakeServer) -> Client:
    """A client that has opened the program, and stored a verdict for offline starts."""
    server.tweak = ALLOWED
    client = start()
    client.open()
    return client


def reject_opening(client: Client, server: FakeServer) -> CardRejected:
    server.tweak = reject("CARD_FROZEN")
    with pytest.raises(CardRejected) as caught:
        client.open()
    return caught.value


@pytest.mark.usefixtures("unmeasured", "opened")
def test_every_byte_of_the_file_counts(store: StateStore, folder: Path) -> None:
    path = only_file(folder)
    good = path.read_bytes()
    flipped = (good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :] for place in range(len(good)))
    for damaged in (*flipped, b"", good[:10], good[:30], good[:-1], good + b"\0", b"{}", good * 2):
        path.write_bytes(damaged)
        assert store.load(HARDWARE) == State()
    path.write_bytes(good)
    assert store.load(HARDWARE).cached is not None


@pytest.mark.usefixtures("opened")
def test_a_damaged_file_counts_as_absent_and_is_replaced(start: MakeClient, server: FakeServer, folder: Path) -> None:
    for damage in (b"", b"rubbish", b"kadun state 1\n", bytes(5_000_000)):
        only_file(folder).write_bytes(damage)
        assert not offline(start(), server)
        assert start().open().accepted
        assert offline(start(), server)


def test_malformed_contents_count_as_absent(store: StateStore, folder: Path) -> None:
    magic, nonce = b"kadun state 2\n", bytes(12)
    store.save(ONE, HARDWARE)
    cipher = store._cipher(HARDWARE)  # noqa: SLF001 - no release writes this, but a customer can
    for plaintext in (b"[]", b"{}", b'{"endorsements": [1]}', b'{"endorsements": [], "kept": {"token": 1}}'):
        only_file(folder).write_bytes(magic + nonce + cipher.encrypt(nonce, plaintext, magic))
        assert store.load(HARDWARE) == State()
    for at in ("1", True, None):
        store.save(State(("x",), rejection=Rejection(at, "REF45678")), HARDWARE)  # type: ignore[arg-type]
        assert store.load(HARDWARE) == ONE


@pytest.mark.parametrize(
    "other", [("another", "kadun", CARD), ("kadun", "another", CARD), ("kadun", "kadun", "F" * 32)]
)
def test_another_programs_file_is_foreign_even_under_our_name(
    other: tuple[str, str, str], store: StateStore, folder: Path
) -> None:
    StateStore(folder, *other).save(ONE, HARDWARE)
    theirs = only_file(folder)
    store.save(ONE, HARDWARE)
    ours = next(path for path in folder.iterdir() if path != theirs)
    theirs.replace(ours)
    assert store.load(HARDWARE) == State()


def test_a_cards_file_is_not_that_of_the_keys(folder: Path, keys_file: StateStore) -> None:
    keys = State(("x",), floor=Floor.seen("kid", 1.0))
    keys_file.save(keys, HARDWARE)
    for card in ("", "-", "F" * 32):
        StateStore(folder, "kadun", "kadun", card).save(State(rejection=Rejection(NOW, "REF45678")), HARDWARE)
    assert keys_file.load(HARDWARE) == keys


def test_another_machine_reads_nothing_from_a_copy(store: StateStore) -> None:
    state = State(("x",), CachedVerdict("t", "c", "n", Secret("e"), Times(1.0, 1.0, 0.0)))
    store.save(state, HARDWARE)
    assert store.load("machine-2") == State()
    assert store.load(HARDWARE).endorsements == ("x",)


def test_the_same_state_is_never_encrypted_the_same_twice(store: StateStore, folder: Path) -> None:
    store.save(ONE, HARDWARE)
    first = only_file(folder).read_bytes()
    store.save(ONE, HARDWARE)
    assert only_file(folder).read_bytes() != first


def test_a_state_that_could_not_be_read_back_is_not_written(store: StateStore, folder: Path) -> None:
    store.save(ONE, HARDWARE)
    most = 4 * MIB - only_file(folder).stat().st_size + 1
    largest = State(("x" * most,))
    store.save(largest, HARDWARE)
    with pytest.raises(OSError, match="more than 4194304 bytes"):
        store.save(State(("x" * (most + 1),)), HARDWARE)
    assert only_file(folder).stat().st_size == 4 * MIB
    assert store.load(HARDWARE) == largest


def test_the_file_is_its_owners_alone(opened: Client, folder: Path) -> None:
    opened.open()
    assert stat.S_IMODE(only_file(folder).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.usefixtures("opened")
def test_a_rejection_leaves_only_its_time(
    start: MakeClient, server: FakeServer, store: StateStore, folder: Path
) -> None:
    rejection = reject_opening(start(), server)
    assert store.load(HARDWARE) == State(rejection=Rejection(NOW, rejection.reference))
    server.tweak = setting()
    start().open()
    assert state_files(folder) == []


def test_a_mistyped_card_leaves_no_file(start: MakeClient, server: FakeServer, folder: Path) -> None:
    server.tweak = reject("CARD_NOT_FOUND")
    with pytest.raises(CardRejected):
        start().open()
    assert not folder.exists() or state_files(folder) == []


def test_a_report_makes_no_file_and_an_unchanged_state_is_not_written(
    start: MakeClient, server: FakeServer, folder: Path
) -> None:
    server.rotate()
    start().report("导出报表")
    before = only_file(folder).stat().st_mtime_ns, only_file(folder).read_bytes()
    start().report("导出报表")
    start().open()
    assert (only_file(folder).stat().st_mtime_ns, only_file(folder).read_bytes()) == before


def blocked_by_a_file(folder: Path) -> None:
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.write_text("a file where a folder should be")


def blocked_by_a_folder(folder: Path) -> None:
    """A folder of the file's own name: neither read, nor replaced, nor removed, not even by root."""
    StateStore(folder, "kadun", "kadun", CARD).save(ONE, HARDWARE)
    path = only_file(folder)
    path.unlink()
    (path / "inside").mkdir(parents=True)


@pytest.mark.parametrize("block", [blocked_by_a_file, blocked_by_a_folder])
def test_a_folder_that_cannot_be_written_prevents_no_online_start(
    block: Callable[[Path], None], start: MakeClient, server: FakeServer, folder: Path
) -> None:
    block(folder)
    server.rotate()
    client = start()
    assert client.report("导出报表").accepted
    server.tweak = ALLOWED
    assert client.open().accepted
    reject_opening(client, server)
    assert not offline(client, server)
    leftovers = folder.iterdir() if folder.is_dir() else iter(())
    assert [path for path in leftovers if path.name.startswith(".new-")] == []


def test_a_full_disk_prevents_no_online_start(start: MakeClient, server: FakeServer, folder: Path) -> None:
    server.tweak = ALLOWED
    with full_disk():
        assert start().open().accepted
    assert state_files(folder) == []


@pytest.mark.usefixtures("opened")
def test_there_is_no_offline_start_if_its_time_cannot_be_stored(start: MakeClient, server: FakeServer) -> None:
    server.script = [no_network] * 2
    with full_disk(), pytest.raises(ServerUnreachable, match="cannot be stored") as caught:
        start().open()
    assert "期限" not in caught.value.message
    assert start().open().offline  # what was there before is still there


def test_a_rejection_erases_the_verdict_on_a_full_disk(
    start: MakeClient, server: FakeServer, store: StateStore, folder: Path
) -> None:
    server.rotate()
    server.tweak = ALLOWED
    start().open()
    assert store.load(HARDWARE).cached is not None
    with full_disk():
        reject_opening(start(), server)
    assert store.load(HARDWARE) == State()
    assert len(state_files(folder)) == 1  # that of the keys


def test_without_a_folder_nothing_is_stored(make_client: MakeClient, server: FakeServer, state_home: Path) -> None:
    server.rotate()
    server.tweak = ALLOWED
    for _ in range(2):
        assert make_client(state_dir=None).open().accepted
    assert server.paths.count("/.well-known/jwks.json") == 2
    assert list(state_home.iterdir()) == []


def test_by_default_it_is_the_platforms_folder(make_client: MakeClient, server: FakeServer, state_home: Path) -> None:
    server.tweak = ALLOWED
    make_client().open()
    assert only_file(state_home / "kadun").suffix == ".state"
    assert repr(PLATFORM_FOLDER) == "PLATFORM_FOLDER"


def no_home(*_arguments: object, **_more: object) -> Path:
    raise RuntimeError("could not determine the home directory")


@for_each("found", [no_home, lambda *_arguments, **_more: Path("~/.local/state/kadun")])
def test_an_account_without_a_home_stores_nothing(
    found: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("platformdirs.user_state_path", found)  # what new and old releases of it do there
    store = StateStore(PLATFORM_FOLDER, "kadun", "kadun", CARD)
    with pytest.raises(OSError, match="no folder"):
        store.save(ONE, HARDWARE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("strange", ["\udcff", "", "卡 密", "a\0b", "../../up", "x" * 5000])
def test_any_string_may_name_a_program_a_card_or_a_machine(strange: str, folder: Path) -> None:
    store = StateStore(folder, strange, strange, strange)
    store.save(ONE, strange)
    assert store.load(strange) == ONE
    assert only_file(folder).parent == folder


def test_processes_write_whole_files_and_take_turns_from_reading_to_writing(store: StateStore, folder: Path) -> None:
    """Each of two processes adds a hundred to what it reads, and overwrites another file without a lock."""
    program = f"""
from kadun import files
from kadun.store import State, StateStore
files._LOCK_SECONDS = {SOON_SECONDS}
store, other = (StateStore({str(folder)!r}, "kadun", "kadun", card) for card in ({CARD!r}, "other"))
for turn in range(100):
    with store.locked():
        state = store.load({HARDWARE!r})
        store.save(State((*state.endorsements, "x")), {HARDWARE!r})
    other.save(State(("x" * 5000,)), {HARDWARE!r})
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    other = StateStore(folder, "kadun", "kadun", "other")
    writers = [subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(2)]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        seen.add(other.load(HARDWARE).endorsements)
    assert [writer.returncode for writer in writers] == [0, 0]
    seen.add(other.load(HARDWARE).endorsements)
    assert seen - {()} == {("x" * 5000,)}
    assert len(store.load(HARDWARE).endorsements) == 200
    assert len(state_files(folder)) == 2


@pytest.mark.usefixtures("opened")
def test_an_offline_start_waits_for_the_process_that_is_writing(
    start: MakeClient, server: FakeServer, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not write back the yes that it read before that process heard a no."""
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


def test_a_virus_scanner_is_waited_for(store: StateStore, scanner: Scanner) -> None:
    for state in (ONE, State(("y",)), State()):  # made, replaced and removed
        scanner.tries = 5
        store.save(state, HARDWARE)
        assert store.load(HARDWARE) == state
        assert scanner.tries == 0


def test_a_rejection_counts_even_if_the_file_can_be_neither_replaced_nor_removed(
    opened: Client,
    start: MakeClient,
    server: FakeServer,
    folder: Path,
    scanner: Scanner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kadun_files, "_SCANNERS_SECONDS", 0.1)
    scanner.tries = float("inf")
    reject_opening(opened, server)
    assert [path.stat().st_size for path in folder.iterdir() if path.suffix == ".state"] == [0]
    assert not offline(start(), server)


def test_a_download_is_put_in_place_once_the_scanner_lets_go(tmp_path: Path, scanner: Scanner) -> None:
    content = b"the model"
    target = tmp_path / "model.bin"
    offer = Offer("model.bin", len(content), hashlib.sha256(content).hexdigest(), "/v1/files/model.bin", "REF45678")
    with PartialFile(target, offer) as part:
        part.append(content)
        scanner.tries = 5
        assert part.install()
    assert target.read_bytes() == content


def test_on_other_systems_a_failure_is_raised_at_once(
    tmp_path: Path, scanner: Scanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanner.tries = 5
    monkeypatch.setattr(sys, "platform", "linux")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(PermissionError):
        kadun_files.remove(file)
    assert scanner.tries == 4
