"""The machine's string on Windows: what changes it, what does not, and which failures leave no string."""

from __future__ import annotations

import ctypes
import sys
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kadun import HardwareUnknown, hardware
from kadun.hardware.smbios import identifiers_in
from kadun.hardware.windows import disk_serial_in

from tests.support.client.machines import (
    ALL_WINDOWS,
    SELF_BUILT,
    THINKPAD,
    VIRTUALBOX,
    WHITE_LABEL,
    Firmware,
    Kernel32,
    Registry,
    Windows,
    disk_descriptor,
    structure,
)
from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Callable

    OnWindows = Callable[..., str]

NAMELESS = WHITE_LABEL.but(disk=None)
THINKPAD_GUID = str(THINKPAD.machine_guid)
OTHER_UUID = "1a60b7d2-c493-4e21-8f05-fc34976620aa"


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> OnWindows:
    """The string of a recorded Windows machine."""

    def string_of(machine: Windows, *failing: Any, **registry: OSError) -> str:
        monkeypatch.setattr(sys, "platform", "win32")
        kernel32 = Kernel32(machine, *failing)

        def library(name: str, *, use_last_error: bool) -> Kernel32:
            assert (name, use_last_error) == ("kernel32", True)
            return kernel32

        monkeypatch.setattr(ctypes, "WinDLL", library, raising=False)
        monkeypatch.setattr(ctypes, "get_last_error", lambda: kernel32.last_error, raising=False)
        monkeypatch.setitem(sys.modules, "winreg", Registry(machine.machine_guid, **registry))
        try:
            return hardware.machine_string()
        finally:
            assert kernel32.open_handles == 0

    return string_of


@for_each(
    ("what", "before", "after", "stays"),
    [
        ("more memory", THINKPAD, THINKPAD.flashed(memory=("Samsung", "SK Hynix", "SK Hynix")), True),
        ("a newer BIOS", THINKPAD, THINKPAD.flashed(bios=("LENOVO", "N3XET65W (1.40 )", "03/02/2026")), True),
        ("another case", SELF_BUILT, SELF_BUILT.flashed(chassis_serial="CN7016XA40"), True),
        ("another disk", SELF_BUILT, SELF_BUILT.but(disk="S5GXNX0W402210"), True),
        ("another placeholder", SELF_BUILT, SELF_BUILT.flashed(system_serial="To be filled by O.E.M."), True),
        ("another spelling of the serial", THINKPAD, THINKPAD.flashed(system_serial=" pf4xk2m9  "), True),
        ("another spelling of the GUID", THINKPAD, THINKPAD.but(machine_guid=THINKPAD_GUID.upper()), True),
        ("more memory without a maker", WHITE_LABEL, WHITE_LABEL.flashed(memory=("", "Kingston")), True),
        ("a BIOS, where nothing tells machines apart: the limit", NAMELESS, NAMELESS.flashed(bios=("AMI", "5")), True),
        ("Windows installed anew", THINKPAD, THINKPAD.but(machine_guid="e4d90c21-7b5f-4a1d-9c38-60a2f1e7d4b9"), False),
        ("a BIOS that lost the serial", SELF_BUILT, SELF_BUILT.flashed(board_serial="Default string"), False),
        ("another disk beside placeholders alone", WHITE_LABEL, WHITE_LABEL.but(disk="YMA14T0HA2250F"), False),
        (
            "another board",
            SELF_BUILT,
            SELF_BUILT.flashed(system_uuid=OTHER_UUID, board_serial="230417733506218"),
            False,
        ),
        ("a copy of Windows on another notebook", THINKPAD, THINKPAD.flashed(system_serial="PF4Y81QC"), False),
        ("a copy of Windows in another virtual machine", VIRTUALBOX, VIRTUALBOX.flashed(system_uuid=OTHER_UUID), False),
        ("another firmware without a GUID", THINKPAD.but(machine_guid=None), SELF_BUILT.but(machine_guid=None), False),
    ],
)
def test_on_windows_it_stays_or_changes_with(
    what: str, before: Windows, after: Windows, *, stays: bool, on_windows: OnWindows
) -> None:
    assert before != after, what
    assert (on_windows(before) == on_windows(after)) is stays


def test_on_windows_no_two_recorded_machines_are_alike(on_windows: OnWindows) -> None:
    cloned = [machine.but(machine_guid=THINKPAD.machine_guid) for machine in ALL_WINDOWS]
    assert len({on_windows(machine) for machine in (*ALL_WINDOWS, *cloned[1:])}) == 2 * len(ALL_WINDOWS) - 1


@for_each("firmware", [None, WHITE_LABEL.firmware])
def test_windows_with_nothing_genuine_has_no_identifier(firmware: Firmware | None, on_windows: OnWindows) -> None:
    with pytest.raises(HardwareUnknown, match="hardware="):
        on_windows(Windows(None, firmware, disk=None))


def test_a_windows_that_lacks_a_call_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "WinDLL", lambda *_arguments, **_settings: object(), raising=False)
    with pytest.raises(HardwareUnknown, match="AttributeError"):
        hardware.machine_string()


FAILURES = [5, 8, 21, 1450]  # access denied, no memory, not ready, no resources
ABSENT = [1, 50, 1168]  # no such function, not supported, not found
CALLS = {
    "GetSystemFirmwareTable": THINKPAD,
    "the second GetSystemFirmwareTable": THINKPAD,
    "DeviceIoControl": WHITE_LABEL,
    "GetSystemWindowsDirectoryW": WHITE_LABEL,
    "CreateFileW": WHITE_LABEL,
}
EVERY_WINDOWS_HAS = ["GetSystemWindowsDirectoryW", "CreateFileW"]


@for_each(("call", "error"), [*product(CALLS, FAILURES), *product(EVERY_WINDOWS_HAS, ABSENT)])
def test_a_windows_where_a_call_fails_gets_no_string(call: str, error: int, on_windows: OnWindows) -> None:
    with pytest.raises(HardwareUnknown, match=f"could not be read.*Errno {error}"):
        on_windows(CALLS[call], call, error)


@for_each("error", ABSENT)
def test_what_a_windows_machine_does_not_have_is_left_out(error: int, on_windows: OnWindows) -> None:
    without_firmware = on_windows(THINKPAD.but(firmware=None))
    assert on_windows(THINKPAD, "GetSystemFirmwareTable", error) == without_firmware
    assert on_windows(WHITE_LABEL, "DeviceIoControl", error) == on_windows(NAMELESS)


@for_each(
    ("place", "error"),
    [
        ("failure", PermissionError(13, "Access is denied")),
        ("failure", OSError(22, "Insufficient system resources exist")),
        ("key_failure", PermissionError(13, "Access is denied")),
        ("key_failure", FileNotFoundError(2, "The system cannot find the file specified")),
    ],
)
def test_a_registry_that_cannot_be_read_yields_no_string(place: str, error: OSError, on_windows: OnWindows) -> None:
    with pytest.raises(HardwareUnknown, match="could not be read"):
        on_windows(THINKPAD, **{place: error})


def test_a_recorded_windows_machine_keeps_its_string_in_every_release(on_windows: OnWindows) -> None:
    """A change here would unbind every customer."""
    assert on_windows(THINKPAD) == "kadun2:dbdfed7466c9684609cce0e6e770833281f9e9d2f102efaab708183dae59dc98"


text = st.text(st.characters(min_codepoint=1, max_codepoint=255), min_size=1, max_size=64)


@given(system_uuid=st.uuids(), system_serial=st.none() | text, board_serial=st.none() | text)
def test_what_was_written_into_the_firmwares_table_is_read(
    system_uuid: object, system_serial: str | None, board_serial: str | None
) -> None:
    firmware = Firmware(str(system_uuid), system_serial, board_serial)
    assert identifiers_in(firmware.raw()) == {
        "system_uuid": str(system_uuid),
        "system_serial": system_serial,
        "board_serial": board_serial,
    }


@given(
    machine=st.sampled_from(ALL_WINDOWS),
    changes=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=8),
    odd=st.binary(max_size=2048),
)
def test_no_table_and_no_disk_descriptor_however_odd_raises(
    machine: Windows, changes: list[tuple[int, int]], odd: bytes
) -> None:
    raw = bytearray(machine.firmware.raw())
    for at, byte in changes:
        raw[at % len(raw)] = byte
    for found in (identifiers_in(bytes(raw)), identifiers_in(odd), {"disk": disk_serial_in(odd)}):
        assert set(found) <= {"system_uuid", "system_serial", "board_serial", "disk"}
        assert all(value is None or isinstance(value, str) for value in found.values())


def test_a_table_cut_anywhere_yields_what_stands_before_the_cut() -> None:
    raw, whole = THINKPAD.firmware.raw(), identifiers_in(THINKPAD.firmware.raw())
    assert [length for length in range(len(raw)) if not identifiers_in(raw[:length]).items() <= whole.items()] == []


def test_the_first_board_counts_no_uuid_of_an_old_system_and_nothing_after_the_end() -> None:
    header, fields = bytes(8), bytes([0, 0, 0, 1])
    board = structure(2, fields, "FIRST-BOARD")
    assert identifiers_in(header + board + structure(2, fields, "RISER"))["board_serial"] == "FIRST-BOARD"
    old = structure(1, fields, "AB1234")  # SMBIOS 2.0: eight bytes
    assert identifiers_in(header + old) == {"system_serial": "AB1234", "system_uuid": None}
    assert identifiers_in(header + structure(127, b"") + structure(2, fields, "LATER")) == {}


def test_a_disk_tells_its_serial_number_or_that_it_has_none() -> None:
    assert disk_serial_in(disk_descriptor("S5GXNX0W402210")) == "S5GXNX0W402210"
    assert disk_serial_in(disk_descriptor(None)) is None
