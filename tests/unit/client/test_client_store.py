"""The state file: encrypted, atomic, private, and optional."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kadun import PLATFORM_FOLDER, CardRejected, Secret, ServerUnreachable
from kadun.clocks import Times
from kadun.store import CachedVerdict, Rejection, State, StateStore

from tests.support.client.fake_server import CARD, HARDWARE, NOW, FakeServer, reject, setting
from tests.support.client.offline import MakeClient, no_network
from tests.support.client.stored_state import ALLOWED, full_disk, offline, only_file, state_files

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.usefixtures("unmeasured")
def test_every_byte_of_the_file_counts(start: MakeClient, server: FakeServer, store: StateStore, folder: Path) -> None:
    server.tweak = ALLOWED
    start().open()
    path = only_file(folder)
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert store.load(HARDWARE) == State()
    for damaged in (b"", good[:10], good[:30], good[:-1], good + b"\0", b"{}", good * 2):
        path.write_bytes(damaged)
        assert store.load(HARDWARE) == State()
    path.write_bytes(good)
    assert store.load(HARDWARE).cached is not None


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"kadun state 1\n", bytes(5_000_000)])
def test_a_damaged_file_counts_as_absent_and_is_replaced(
    damage: bytes, start: MakeClient, server: FakeServer, folder: Path
) -> None:
    server.tweak = ALLOWED
    start().open()
    only_file(folder).write_bytes(damage)
    assert not offline(start(), server)
    assert start().open().accepted
    assert offline(start(), server)


@pytest.mark.parametrize(
    "plaintext", [b"[]", b"{}", b'{"endorsements": [1]}', b'{"endorsements": [], "kept": {"token": 1}}']
)
def test_malformed_contents_count_as_absent(plaintext: bytes, store: StateStore, folder: Path) -> None:
    magic, nonce = b"kadun state 2\n", bytes(12)
    store.save(State(("x",)), HARDWARE)
    cipher = store._cipher(HARDWARE)  # noqa: SLF001 - no release writes this, but a customer can
    only_file(folder).write_bytes(magic + nonce + cipher.encrypt(nonce, plaintext, magic))
    assert store.load(HARDWARE) == State()


@pytest.mark.parametrize(
    "other", [("another", "kadun", CARD), ("kadun", "another", CARD), ("kadun", "kadun", "F" * 32)]
)
def test_another_programs_file_is_foreign_even_under_our_name(
    other: tuple[str, str, str], store: StateStore, folder: Path
) -> None:
    StateStore(folder, *other).save(State(("x",)), HARDWARE)
    theirs = only_file(folder)
    store.save(State(("y",)), HARDWARE)
    ours = next(path for path in folder.iterdir() if path != theirs)
    theirs.replace(ours)
    assert store.load(HARDWARE) == State()


def test_another_machine_reads_nothing_from_a_copy(store: StateStore) -> None:
    state = State(("x",), CachedVerdict("t", "c", "n", Secret("e"), Times(1.0, 1.0, 0.0)))
    store.save(state, HARDWARE)
    assert store.load("machine-2") == State()
    assert store.load(HARDWARE).endorsements == ("x",)


def test_the_same_state_is_never_encrypted_the_same_twice(store: StateStore, folder: Path) -> None:
    store.save(State(("x",)), HARDWARE)
    first = only_file(folder).read_bytes()
    store.save(State(("x",)), HARDWARE)
    assert only_file(folder).read_bytes() != first


def test_the_file_is_its_owners_alone(start: MakeClient, server: FakeServer, folder: Path) -> None:
    server.tweak = ALLOWED
    start().open()
    start().open()
    assert stat.S_IMODE(only_file(folder).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_rejection_leaves_only_its_time(
    start: MakeClient, server: FakeServer, store: StateStore, folder: Path
) -> None:
    server.tweak = ALLOWED
    start().open()
    server.tweak = reject("CARD_FROZEN")
    with pytest.raises(CardRejected) as caught:
        start().open()
    assert store.load(HARDWARE) == State(rejection=Rejection(NOW, caught.value.reference))
    server.tweak = setting()
    start().open()
    assert state_files(folder) == []


def test_a_mistyped_card_leaves_no_file(start: MakeClient, server: FakeServer, folder: Path) -> None:
    server.tweak = reject("CARD_NOT_FOUND")
    with pytest.raises(CardRejected):
        start().open()
    assert not folder.exists() or state_files(folder) == []


@pytest.mark.parametrize("at", ["1", True, None])
def test_a_malformed_rejection_counts_as_absent(at: Any, store: StateStore) -> None:
    store.save(State(("x",), rejection=Rejection(at, "REF45678")), HARDWARE)
    assert store.load(HARDWARE) == State(("x",))


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
    StateStore(folder, "kadun", "kadun", CARD).save(State(("x",)), HARDWARE)
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
    server.tweak = reject("CARD_FROZEN")
    with pytest.raises(CardRejected):
        client.open()
    assert not offline(client, server)
    leftovers = folder.iterdir() if folder.is_dir() else iter(())
    assert [path for path in leftovers if path.name.startswith(".new-")] == []


def test_a_full_disk_prevents_no_online_start(start: MakeClient, server: FakeServer, folder: Path) -> None:
    server.tweak = ALLOWED
    with full_disk():
        assert start().open().accepted
    assert state_files(folder) == []


def test_there_is_no_offline_start_if_its_time_cannot_be_stored(start: MakeClient, server: FakeServer) -> None:
    server.tweak = ALLOWED
    start().open()
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
    server.tweak = reject("CARD_FROZEN")
    with full_disk(), pytest.raises(CardRejected):
        start().open()
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


@pytest.mark.parametrize("found", [no_home, lambda *_arguments, **_more: Path("~/.local/state/kadun")])
def test_an_account_without_a_home_stores_nothing(
    found: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("platformdirs.user_state_path", found)  # what new and old releases of it do there
    store = StateStore(PLATFORM_FOLDER, "kadun", "kadun", CARD)
    with pytest.raises(OSError, match="no folder"):
        store.save(State(("x",)), HARDWARE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("strange", ["\udcff", "", "卡 密", "a\0b", "../../up", "x" * 5000])
def test_any_string_may_name_a_program_a_card_or_a_machine(strange: str, folder: Path) -> None:
    store = StateStore(folder, strange, strange, strange)
    store.save(State(("x",)), strange)
    assert store.load(strange).endorsements == ("x",)
    assert only_file(folder).parent == folder


def test_two_processes_that_write_at_once_leave_a_whole_file(store: StateStore, folder: Path) -> None:
    program = f"""
from kadun.store import State, StateStore
store = StateStore({str(folder)!r}, "kadun", "kadun", {CARD!r})
for turn in range(60):
    store.save(State(("x" * 5000,)), {HARDWARE!r})
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client" / "src")}
    writers = [subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(2)]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        seen.add(store.load(HARDWARE).endorsements)
    assert [writer.returncode for writer in writers] == [0, 0]
    seen.add(store.load(HARDWARE).endorsements)
    assert seen - {()} == {("x" * 5000,)}
    assert len(list(folder.iterdir())) == 1
