"""The machine's string on Windows: what changes it, what does not, and which failures leave no string."""

from __future__ import annotations

import ctypes
import sys
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

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
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


SAME_ON_WINDOWS = {
    "more memory": (THINKPAD, THINKPAD.flashed(memory=("Samsung", "SK Hynix", "SK Hynix"))),
    "a newer BIOS": (THINKPAD, THINKPAD.flashed(bios=("LENOVO", "N3XET65W (1.40 )", "03/02/2026"))),
    "another case": (SELF_BUILT, SELF_BUILT.flashed(chassis_serial="CN7016XA40")),
    "another disk": (SELF_BUILT, SELF_BUILT.but(disk="S5GXNX0W402210")),
    "a BIOS with other dummies": (
        SELF_BUILT,
        SELF_BUILT.flashed(system_serial="To be filled by O.E.M."),
    ),
    "another spelling": (
        THINKPAD,
        THINKPAD.flashed(system_serial=" pf4xk2m9  ").but(machine_guid=str(THINKPAD.machine_guid).upper()),
    ),
    "more memory without a maker": (WHITE_LABEL, WHITE_LABEL.flashed(memory=("", "Kingston"))),
}


@pytest.mark.parametrize("what", SAME_ON_WINDOWS)
def test_on_windows_it_stays(what: str, on_windows: Callable[[Windows], str]) -> None:
    before, after = SAME_ON_WINDOWS[what]
    assert before != after
    assert on_windows(before) == on_windows(after)


OTHER_ON_WINDOWS = {
    "Windows installed anew": (THINKPAD, THINKPAD.but(machine_guid="e4d90c21-7b5f-4a1d-9c38-60a2f1e7d4b9")),
    "another board in it": (
        SELF_BUILT,
        SELF_BUILT.flashed(system_uuid="1a60b7d2-c493-4e21-8f05-fc34976620aa", board_serial="230417733506218"),
    ),
    "a BIOS that lost the serial number": (SELF_BUILT, SELF_BUILT.flashed(board_serial="Default string")),
    "another disk where the firmware has dummies alone": (WHITE_LABEL, WHITE_LABEL.but(disk="YMA14T0HA2250F")),
    "a copy of Windows on another notebook": (
        THINKPAD,
        THINKPAD.flashed(
            system_uuid="8812d4cc-3a5e-11ee-95b0-6c2408d2713a", system_serial="PF4Y81QC", board_serial="L1HF3AB02KT"
        ),
    ),
    "a copy of Windows in another virtual machine": (
        VIRTUALBOX,
        VIRTUALBOX.flashed(system_uuid="0d41c7b2-88e6-4f39-a520-6be19d37c0f4").but(disk="VB91d0e7c2-3f6a8b14"),
    ),
}


@pytest.mark.parametrize("what", OTHER_ON_WINDOWS)
def test_on_windows_it_changes_with(what: str, on_windows: Callable[[Windows], str]) -> None:
    before, after = OTHER_ON_WINDOWS[what]
    assert on_windows(before) != on_windows(after)


def test_on_windows_no_two_recorded_machines_are_alike(on_windows: Callable[[Windows], str]) -> None:
    cloned = [machine.but(machine_guid=THINKPAD.machine_guid) for machine in ALL_WINDOWS]
    assert len({on_windows(machine) for machine in (*ALL_WINDOWS, *cloned[1:])}) == 2 * len(ALL_WINDOWS) - 1


def test_on_windows_copies_on_dummy_boards_whose_disks_have_no_serial_are_alike(
    on_windows: Callable[[Windows], str],
) -> None:
    """The limit, stated: nothing is left that tells these machines apart."""
    one = WHITE_LABEL.but(disk=None)
    assert on_windows(one) == on_windows(one.flashed(bios=("American Megatrends Inc.", "5.11", "11/14/2024")))


def test_on_windows_the_firmware_suffices_without_a_machine_guid(on_windows: Callable[[Windows], str]) -> None:
    assert on_windows(THINKPAD.but(machine_guid=None)) != on_windows(SELF_BUILT.but(machine_guid=None))


@pytest.mark.parametrize("firmware", [None, WHITE_LABEL.firmware])
def test_windows_with_nothing_genuine_is_said_to_have_no_identifier(
    firmware: Firmware | None, on_windows: Callable[[Windows], str]
) -> None:
    with pytest.raises(HardwareUnknown, match="hardware="):
        on_windows(Windows(None, firmware, disk=None))


def test_a_windows_that_lacks_a_call_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "WinDLL", lambda *_arguments, **_settings: object(), raising=False)
    with pytest.raises(HardwareUnknown, match="AttributeError"):
        hardware.machine_string()


FAILING = {
    "the firmware": (THINKPAD, "GetSystemFirmwareTable"),
    "the firmware at the second call": (THINKPAD, "the second GetSystemFirmwareTable"),
    "the folder of Windows": (WHITE_LABEL, "GetSystemWindowsDirectoryW"),
    "the disk": (WHITE_LABEL, "CreateFileW"),
    "the disk's serial": (WHITE_LABEL, "DeviceIoControl"),
}


@pytest.mark.parametrize("error", [5, 8, 21, 1450], ids=["access", "memory", "not ready", "resources"])
@pytest.mark.parametrize("what", FAILING)
def test_a_windows_where_a_call_fails_gets_no_string_rather_than_another(
    what: str, error: int, on_windows: Callable[..., str]
) -> None:
    machine, call = FAILING[what]
    with pytest.raises(HardwareUnknown, match=f"could not be read.*Errno {error}"):
        on_windows(machine, call, error)


@pytest.mark.parametrize("error", [1, 50, 1168], ids=["no such function", "not supported", "not found"])
def test_what_a_windows_machine_does_not_have_is_left_out(error: int, on_windows: Callable[..., str]) -> None:
    without_firmware = on_windows(THINKPAD.but(firmware=None))
    assert on_windows(THINKPAD, "GetSystemFirmwareTable", error) == without_firmware
    assert on_windows(WHITE_LABEL, "DeviceIoControl", error) == on_windows(WHITE_LABEL.but(disk=None))
    for call in ("GetSystemWindowsDirectoryW", "CreateFileW"):  # these every Windows has
        with pytest.raises(HardwareUnknown):
            on_windows(WHITE_LABEL, call, error)


@pytest.mark.parametrize(
    "registry",
    [
        {"failure": PermissionError(13, "Access is denied")},
        {"failure": OSError(22, "Insufficient system resources exist")},
        {"key_failure": PermissionError(13, "Access is denied")},
        {"key_failure": FileNotFoundError(2, "The system cannot find the file specified")},
    ],
)
def test_a_registry_that_cannot_be_read_yields_no_string_rather_than_another(
    registry: dict[str, OSError], on_windows: Callable[..., str]
) -> None:
    with pytest.raises(HardwareUnknown, match="could not be read"):
        on_windows(THINKPAD, **registry)


def test_a_recorded_windows_machine_keeps_its_string_in_every_release(on_windows: Callable[[Windows], str]) -> None:
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
