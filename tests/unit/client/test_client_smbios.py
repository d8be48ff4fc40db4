"""The firmware's table, as bytes that anybody may have written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kadun.hardware.smbios import identifiers_in
from kadun.hardware.windows import disk_serial_in

from tests.support.client.machines import ALL_WINDOWS, THINKPAD, Firmware, disk_descriptor, structure

text = st.text(st.characters(min_codepoint=1, max_codepoint=255), min_size=1, max_size=64)


@given(system_uuid=st.uuids(), system_serial=st.none() | text, board_serial=st.none() | text)
def test_what_was_written_is_read(system_uuid: object, system_serial: str | None, board_serial: str | None) -> None:
    firmware = Firmware(str(system_uuid), system_serial, board_serial)
    assert identifiers_in(firmware.raw()) == {
        "system_uuid": str(system_uuid),
        "system_serial": system_serial,
        "board_serial": board_serial,
    }


@given(raw=st.binary(max_size=2048))
def test_no_table_however_odd_raises(raw: bytes) -> None:
    found = identifiers_in(raw)
    assert all(value is None or isinstance(value, str) for value in found.values())


@given(
    machine=st.sampled_from(ALL_WINDOWS),
    changes=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_no_damaged_table_raises(machine: object, changes: list[tuple[int, int]]) -> None:
    assert machine in ALL_WINDOWS
    raw = bytearray(machine.firmware.raw())  # type: ignore[attr-defined]
    for at, byte in changes:
        raw[at % len(raw)] = byte
    assert set(identifiers_in(bytes(raw))) <= {"system_uuid", "system_serial", "board_serial"}


def test_a_table_cut_anywhere_yields_what_stands_before_the_cut() -> None:
    assert THINKPAD.firmware
    raw, whole = THINKPAD.firmware.raw(), identifiers_in(THINKPAD.firmware.raw())
    for length in range(len(raw)):
        assert identifiers_in(raw[:length]).items() <= whole.items()


def test_of_several_boards_the_first_counts() -> None:
    header, board = bytes(8), structure(2, bytes([0, 0, 0, 1]), "FIRST-BOARD")
    assert identifiers_in(header + board + structure(2, bytes([0, 0, 0, 1]), "RISER"))["board_serial"] == "FIRST-BOARD"


def test_a_system_of_an_age_without_uuids_has_none() -> None:
    old = bytes(8) + structure(1, bytes([0, 0, 0, 1]), "AB1234")  # SMBIOS 2.0: eight bytes
    assert identifiers_in(old) == {"system_serial": "AB1234", "system_uuid": None}


def test_nothing_after_the_end_counts() -> None:
    assert identifiers_in(bytes(8) + structure(127, b"") + structure(2, bytes([0, 0, 0, 1]), "LATER")) == {}


@given(descriptor=st.binary(max_size=128))
def test_no_disk_descriptor_however_odd_raises(descriptor: bytes) -> None:
    found = disk_serial_in(descriptor)
    assert found is None or isinstance(found, str)


def test_a_disk_tells_its_serial_number_or_that_it_has_none() -> None:
    assert disk_serial_in(disk_descriptor("S5GXNX0W402210")) == "S5GXNX0W402210"
    assert disk_serial_in(disk_descriptor(None)) is None
