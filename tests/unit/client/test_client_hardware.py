"""The machine's own string: what changes it, what does not, and which failures leave no string."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import machineid
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kadun import HardwareUnknown, hardware
from kadun.hardware import unix
from kadun.hardware.placeholders import without_placeholders
from kadun.hardware.windows import disk_serial_in, identifiers_in

from tests.support.client import machines
from tests.support.client.machines import (
    ALL_WINDOWS,
    MAC_IN_VMWARE,
    MAC_WITHOUT_SERIAL,
    MACBOOK,
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
    from collections.abc import Callable, Iterator

    from tests.support.client.customer_machine import MakeClient
    from tests.support.client.fake_server import FakeServer

    Strings = Callable[..., str]

    OnWindows = Callable[..., str]


MACHINE_ID = "e08d2021fbdd6f894fde550c98aff54d"
NOBODY = 65534
DUMMIES = """
To be filled by O.E.M.|To Be Filled By O.E.M.|TO BE FILLED BY OEM|Default string|Default_string|System Serial Number
SystemSerialNumb|Base Board Serial Number|Chassis Serial Number|Type2 - Board Serial Number|Serial Number|None|NONE
Not Specified|Not Applicable|Not Available|NotAvailable|N/A|NA|null|Unknown|INVALID|OEM|O.E.M.|Empty|Standard|Undefined
Unspecified System Serial Number|<OUT OF SPEC>|<BAD INDEX>|0|00000000|000000000000|FFFFFFFF|xxxxxxxxxxx|..........|/
123456789|0123456789|1234567890|0123456789012345|MB-1234567890|BSN12345678901234567|SSN12345678901234567
00000000-0000-0000-0000-000000000000|FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF|FEFEFEFE-FEFE-FEFE-FEFE-FEFEFEFEFEFE
03000200-0400-0500-0006-000700080009|00020003-0004-0005-0006-000700080009|00010203-0405-0607-0809-0A0B0C0D0E0F
03020100-0504-0706-0809-0A0B0C0D0E0F|12345678-1234-5678-90AB-CDDEEFAABBCC|DEADBEEF-DEAD-BEEF-DEAD-BEEFDEADBEEF
4C4C4544-0000-2010-8020-80C04F202020|11111111-2222-3333-4444-555555555555|        |??????|é
"""
GENUINE = """
PF4XK2M9|L1HF3AB01DE|220213589104752|/7ABC123/CN1296164M00AB/|VMware-56 4d 5a ca f7 12 83 9e-1c 41 7f 2a 90 b3 d6 e8
Parallels-2D 5F 1B C9 A3 4E 47 8F B1 22 70 D8 93 6A E4 0C|8412-7305-9916-4420-1573-6618-27|C02FK3XHQ05N|LRX4278
0025_38B4_1140_A1D2.|03D40274-0435-05DC-8506-010700080009|00000000-0000-0000-0000-AC1F6B4D27E1|1234567A
4C4C4544-0042-3510-8052-B3C04F4B4E32|0000-0002-8812-3351-0957-1160-90|564D5ACA-12F7-9E83-1C41-7F2A90B3D6E8|ZF01234567X
"""


@pytest.fixture
def on_mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Strings:
    """The string of a recorded Mac: a program in place of ioreg, for us and for py-machineid."""
    program = tmp_path / "ioreg"
    monkeypatch.setattr(unix, "IOREG", str(program))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def string_of(platform_uuid: str, serial: str | None, script: str = "") -> str:
        program.write_text(f"#!/bin/sh\n{script}\ncat <<'END'\n{machines.ioreg(platform_uuid, serial)}END\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(machineid, "platform", "darwin")
        return hardware.machine_string()

    return string_of


def test_a_mac_is_known_by_its_platform_uuid_and_its_serial(on_mac: Strings) -> None:
    uuid, serial = MACBOOK
    strings = {on_mac(*mac) for mac in (MACBOOK, MAC_IN_VMWARE, MAC_WITHOUT_SERIAL, (uuid, "C02FK3XHQ05P"))}
    assert len(strings) == 4
    assert on_mac(uuid.lower(), serial) in strings
    assert on_mac(MAC_WITHOUT_SERIAL[0], None) == on_mac(*MAC_WITHOUT_SERIAL)


@for_each("script", ["exit 1", "exec /no/such/program"])
def test_a_mac_whose_ioreg_fails_gets_no_string_rather_than_another(script: str, on_mac: Strings) -> None:
    with pytest.raises(HardwareUnknown, match="could not be read"):
        on_mac(*MACBOOK, script=script)


def test_a_mac_whose_ioreg_hangs_is_not_waited_for(
    on_mac: Strings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "SECONDS", 0.2)
    os.mkfifo(tmp_path / "fifo")
    silent = os.open(tmp_path / "fifo", os.O_RDWR)
    try:
        with pytest.raises(HardwareUnknown, match=r"within 0\.2 seconds"):
            on_mac(*MACBOOK, script=f"exec cat '{tmp_path}/fifo'")
    finally:
        (tmp_path / "fifo").unlink()  # or a program that is slow to start would wait for ever
        os.close(silent)  # ends the program


@pytest.fixture
def on_linux(monkeypatch: pytest.MonkeyPatch) -> Iterator[Strings]:
    """The string of a recorded Linux machine."""
    folder = Path(tempfile.mkdtemp())  # not tmp_path, into which nobody but the user sees
    folder.chmod(0o755)
    monkeypatch.setattr(unix, "BOARD_SERIAL", folder / "serial-number")
    monkeypatch.setattr(unix, "MACHINE_ID", folder / "machine-id")

    def string_of(
        machine_id: str | None, board_serial: str | None = None, mode: int = 0o444, *, dbus: str | None = None
    ) -> str:
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(
            machineid, "__read__", {"/etc/machine-id": machine_id, "/var/lib/dbus/machine-id": dbus}.get
        )
        unix.MACHINE_ID.unlink(missing_ok=True)
        if machine_id is not None:
            unix.MACHINE_ID.write_text(f"{machine_id}\n", encoding="utf-8")
        unix.BOARD_SERIAL.unlink(missing_ok=True)
        if board_serial is not None:
            unix.BOARD_SERIAL.write_text(f"{board_serial}\0", encoding="ascii")
            unix.BOARD_SERIAL.chmod(mode)
        return hardware.machine_string()

    yield string_of
    shutil.rmtree(folder)


def test_linux_is_known_by_its_machine_id_and_the_boards_serial(on_linux: Strings) -> None:
    other = MACHINE_ID[::-1]
    strings = {
        on_linux(MACHINE_ID),
        on_linux(other),
        on_linux(MACHINE_ID, "10000000a3f1c2d4"),  # one memory card copied for two Raspberry Pis
        on_linux(MACHINE_ID, "10000000b7e09d15"),
    }
    assert len(strings) == 4
    assert on_linux(MACHINE_ID, "0000000000000000") in strings
    assert on_linux(MACHINE_ID, dbus=other) == on_linux(MACHINE_ID)  # that of D-Bus counts only without the other
    assert on_linux(None, dbus=other) == on_linux("uninitialized", dbus=other) == on_linux(other)


@pytest.mark.parametrize("name", ["MACHINE_ID", "BOARD_SERIAL"])
def test_a_linux_where_an_identifier_cannot_be_read_gets_no_string_rather_than_another(
    name: str, on_linux: Strings, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_linux(MACHINE_ID, dbus=MACHINE_ID)
    monkeypatch.setattr(unix, name, unix.BOARD_SERIAL.parent)  # a folder: not even root reads it
    with pytest.raises(HardwareUnknown, match="IsADirectoryError"):
        hardware.machine_string()


@for_each("machine_id", ["", "uninitialized", "0" * 32, "00000000-0000-0000-0000-000000000000", "é", "12", None])
def test_a_machine_without_an_identifier_opens_only_with_the_vendors_own_string(
    machine_id: str | None, on_linux: Strings, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machineid, "__exec__", lambda _command: None)
    with pytest.raises(HardwareUnknown, match="hardware="):
        on_linux(machine_id)
    with pytest.raises(HardwareUnknown) as caught:
        make_client(hardware=None, language="en").open()
    assert "seller" in caught.value.message
    assert make_client(hardware="my own").open().accepted


def test_the_id_of_a_container_does_not_count(on_linux: Strings, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each start has another.
    monkeypatch.setattr(machineid, "id", lambda: "fbc23b5cadda6cc86786c04341c95a19b3b9b6504d044b5a9e1bd928d37deb36")
    with pytest.raises(HardwareUnknown):
        on_linux(None)


def as_anyone_else(ask: Callable[[], str]) -> str:
    """Ask as an ordinary user. Only root can change over; who is none already is one."""
    if os.geteuid() != 0:
        return ask()
    os.seteuid(NOBODY)
    try:
        return ask()
    finally:
        os.seteuid(0)


def own_string() -> str:
    try:
        return hardware.machine_string()
    except HardwareUnknown as unknown:
        return repr(unknown)


def test_this_very_machine_has_one_string_whoever_asks() -> None:
    assert own_string() == own_string() == as_anyone_else(own_string)


@for_each("mode", [0o400, 0o444])
def test_what_an_administrator_alone_may_read_has_no_part_in_it(mode: int, on_linux: Strings) -> None:
    string = on_linux(MACHINE_ID, "10000000a3f1c2d4", mode)
    assert as_anyone_else(hardware.machine_string) == string
    assert (string == on_linux(MACHINE_ID)) is (mode == 0o400)


def test_the_string_hides_what_it_is_made_of_and_differs_from_program_to_program() -> None:
    one, other = (hardware.digest({"machine_id": MACHINE_ID}, program) for program in ("账本", "ledger"))
    assert one != other
    assert re.fullmatch(r"kadun2:[0-9a-f]{64}", one)
    assert MACHINE_ID not in one


def test_the_client_uses_it_unless_told_otherwise(
    on_linux: Strings, make_client: MakeClient, server: FakeServer
) -> None:
    on_linux(MACHINE_ID)
    make_client(hardware=None, program="账本").open()
    make_client(hardware="my own").open()
    assert [request["hardware"] for request in server.requests] == [hardware.machine_string("账本"), "my own"]


def test_placeholders_of_manufacturers_are_no_identifiers_and_unusual_identifiers_count() -> None:
    dummies, genuine = (texts.strip("\n").replace("\n", "|").split("|") for texts in (DUMMIES, GENUINE))
    assert [dummy for dummy in dummies if without_placeholders({"it": dummy})] == []
    assert [value for value in genuine if not without_placeholders({"it": value})] == []


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
    assert disk_serial_in(disk_descriptor(None)) is None


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


def test_recorded_machines_keep_their_strings_in_every_release(
    on_mac: Strings, on_linux: Strings, on_windows: OnWindows
) -> None:
    """A change here would unbind every customer."""
    assert on_linux(MACHINE_ID) == "kadun2:6697d8b6023f9c773cf51b87d21b3b6a18e90b7b5de09ae24e281d42c8f97843"
    assert on_windows(THINKPAD) == "kadun2:dbdfed7466c9684609cce0e6e770833281f9e9d2f102efaab708183dae59dc98"
    assert on_mac(*MACBOOK) == "kadun2:020272ec27d38b369a0a2c3d90d344d0282a8d5315d51fd7c744479accd500f0"
    assert (
        hardware.digest({"b": "2", "a": "1"}, "账本")
        == hardware.digest({"a": "1", "b": "2"}, "账本")
        == "kadun2:6936dccedcb5da3d3c485a61d7927c81f3b3a433aa5f0754efbad953a6d4df27"
    )


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
