"""The state file: encrypted, private, and optional."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kadun import PLATFORM_FOLDER
from kadun.keys import Floor
from kadun.store import Rejection, State, StateStore

from tests.support.client.customer_machine import Machine, full_disk
from tests.support.client.fake_server import CARD, HARDWARE, NOW, setting
from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.client.offline import MakeClient

MIB = 1024 * 1024
ONE, OTHER = State(("x",)), State(("y",))


@pytest.mark.usefixtures("unmeasured")
def test_every_byte_of_the_file_counts(machine: Machine) -> None:
    machine.open()
    path = machine.file
    good = path.read_bytes()
    flipped = (good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :] for place in range(len(good)))
    for damaged in (*flipped, b"", good[:10], good[:30], good[:-1], good + b"\0", b"{}", good * 2):
        path.write_bytes(damaged)
        assert machine.store.load(HARDWARE) == State()
    path.write_bytes(good)
    assert machine.cached


@for_each("damage", [b"", b"rubbish", b"kadun state 1\n", bytes(5_000_000)])
def test_a_damaged_file_counts_as_absent_and_is_replaced(damage: bytes, machine: Machine) -> None:
    machine.open()
    machine.file.write_bytes(damage)
    assert not machine.starts_offline()
    assert machine.open().accepted
    assert machine.starts_offline()


def test_malformed_contents_count_as_absent(machine: Machine) -> None:
    magic, nonce = b"kadun state 2\n", bytes(12)
    machine.store.save(ONE, HARDWARE)
    cipher = machine.store._cipher(HARDWARE)  # noqa: SLF001 - no release writes this, but a customer can
    for plaintext in (b"[]", b"{}", b'{"endorsements": [1]}', b'{"endorsements": [], "kept": {"token": 1}}'):
        machine.file.write_bytes(magic + nonce + cipher.encrypt(nonce, plaintext, magic))
        assert machine.store.load(HARDWARE) == State()
    for at in ("1", True, None):
        machine.store.save(State(("x",), rejection=Rejection(at, "REF45678")), HARDWARE)  # type: ignore[arg-type]
        assert machine.store.load(HARDWARE) == ONE


@for_each("theirs", [("another", "kadun", CARD), ("kadun", "another", CARD), ("kadun", "kadun", "F" * 32)])
def test_another_programs_file_is_foreign_even_under_our_name(theirs: tuple[str, str, str], machine: Machine) -> None:
    machine.store.save(ONE, HARDWARE)
    ours = machine.file
    ours.unlink()
    StateStore(machine.folder, *theirs).save(ONE, HARDWARE)
    machine.file.rename(ours)
    assert machine.store.load(HARDWARE) == State()


def test_a_cards_file_is_not_that_of_the_keys(machine: Machine) -> None:
    keys = State(("x",), floor=Floor.seen("kid", 1.0))
    machine.keys_file.save(keys, HARDWARE)
    for card in ("", "-", "F" * 32):
        StateStore(machine.folder, "kadun", "kadun", card).save(OTHER, HARDWARE)
    assert machine.keys_file.load(HARDWARE) == keys


def test_another_machine_reads_nothing_from_a_copy(machine: Machine) -> None:
    machine.open()
    assert machine.store.load("machine-2") == State()
    assert machine.cached


def test_the_same_state_is_never_encrypted_the_same_twice(machine: Machine) -> None:
    machine.store.save(ONE, HARDWARE)
    first = machine.file.read_bytes()
    machine.store.save(ONE, HARDWARE)
    assert machine.file.read_bytes() != first


def test_a_state_that_could_not_be_read_back_is_not_written(machine: Machine) -> None:
    machine.store.save(ONE, HARDWARE)
    most = 4 * MIB - machine.file.stat().st_size + 1
    largest = State(("x" * most,))
    machine.store.save(largest, HARDWARE)
    with pytest.raises(OSError, match="more than 4194304 bytes"):
        machine.store.save(State(("x" * (most + 1),)), HARDWARE)
    assert machine.file.stat().st_size == 4 * MIB
    assert machine.store.load(HARDWARE) == largest


def test_the_file_is_its_owners_alone(machine: Machine) -> None:
    machine.store.save(ONE, HARDWARE)
    for _ in range(2):
        machine.open()
        assert stat.S_IMODE(machine.file.stat().st_mode) == 0o600
        assert stat.S_IMODE(machine.folder.stat().st_mode) == 0o700


def test_a_rejection_leaves_only_its_time_and_that_of_a_mistyped_card_nothing(machine: Machine) -> None:
    machine.rejects(code="CARD_NOT_FOUND")
    assert machine.files == []
    machine.server.tweak = setting(offline_until=NOW + 3600)
    machine.open()
    rejection = machine.rejects()
    assert machine.store.load(HARDWARE) == State(rejection=Rejection(NOW, rejection.reference))
    machine.server.tweak = setting()
    machine.open()
    assert machine.files == []


def test_a_report_makes_no_file_and_an_unchanged_state_is_not_written(machine: Machine) -> None:
    machine.server.tweak = setting()
    machine.server.rotate()
    machine.run().report("导出报表")
    before = machine.file.stat().st_mtime_ns, machine.file.read_bytes()
    machine.run().report("导出报表")
    machine.open()
    assert (machine.file.stat().st_mtime_ns, machine.file.read_bytes()) == before


def block_by_a_file(machine: Machine) -> None:
    machine.folder.parent.parent.mkdir(parents=True, exist_ok=True)
    machine.folder.parent.write_text("a file where a folder should be")


def block_by_a_folder(machine: Machine) -> None:
    """A folder of the file's own name: neither read, nor replaced, nor removed, not even by root."""
    machine.store.save(ONE, HARDWARE)
    path = machine.file
    path.unlink()
    (path / "inside").mkdir(parents=True)


@pytest.mark.parametrize("block", [block_by_a_file, block_by_a_folder])
def test_an_unwritable_folder_prevents_no_online_start(block: Callable[[Machine], None], machine: Machine) -> None:
    block(machine)
    machine.server.rotate()
    client = machine.run()
    assert client.report("导出报表").accepted
    assert client.open().accepted
    machine.rejects(client)
    assert not machine.starts_offline(client)
    assert [path for path in machine.files if path.name.startswith(".new-")] == []


def test_on_a_full_disk_the_program_starts_online_but_not_offline(machine: Machine) -> None:
    with full_disk():
        assert machine.open().accepted
    assert machine.files == []
    machine.open()
    with full_disk():
        failure = machine.fails_offline()
    assert "their time cannot be stored" in failure.detail
    assert "期限" not in failure.message
    assert machine.starts_offline()  # what was there before is still there


def test_a_rejection_erases_the_verdict_on_a_full_disk(machine: Machine) -> None:
    machine.server.rotate()
    machine.open()
    assert machine.cached
    with full_disk():
        machine.rejects()
    assert machine.store.load(HARDWARE) == State()
    assert machine.file  # that of the keys


def test_without_a_folder_nothing_is_stored(machine: Machine, state_home: Path) -> None:
    machine.server.rotate()
    for _ in range(2):
        assert machine.open(state_dir=None).accepted
    assert machine.server.paths.count("/.well-known/jwks.json") == 2
    assert list(state_home.iterdir()) == []


@pytest.mark.usefixtures("machine")
def test_by_default_it_is_the_platforms_folder(make_client: MakeClient, state_home: Path) -> None:
    make_client().open()
    assert list((state_home / "kadun").glob("*.state"))
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


@for_each("strange", ["\udcff", "", "卡 密", "a\0b", "../../up", "x" * 5000])
def test_any_string_may_name_a_program_a_card_or_a_machine(strange: str, machine: Machine) -> None:
    store = StateStore(machine.folder, strange, strange, strange)
    store.save(ONE, strange)
    assert store.load(strange) == ONE
    assert machine.file.parent == machine.folder
    machine.file.unlink()
