"""The machine's own string: what changes it, what does not, and which failures leave no string."""
# Owns client-hardware.

import ctypes
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import machineid
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kadun import HardwareUnknown, hardware
from kadun.hardware import unix
from kadun.hardware.placeholders import without_placeholders
from kadun.hardware.windows import disk_serial_in, identifiers_in

from tests.support.client.customer_machine import MakeClient
from tests.support.client.fake_server import FakeServer
from tests.support.client.machines import (
    MACBOOK,
    THINKPAD,
    WHITE_LABEL,
    Windows,
    disk_descriptor,
    ioreg,
    kernel32_of,
    structure,
    winreg_of,
)
from tests.support.tables import for_each

Strings = Callable[..., str]


MACHINE_ID = "e08d2021fbdd6f894fde550c98aff54d"
NOBODY = 65534
ABSENT = [1, 50, 1168]  # no such function, not supported, not found
DUMMIES = """
To be filled by O.E.M.|Default_string|Type2 - Board Serial Number|None|Not Specified|Not Applicable|NotAvailable|N/A
Unknown|INVALID|O.E.M.|Empty|Standard|Undefined|<OUT OF SPEC>|<BAD INDEX>|0|xxxxxxxxxxx|0123456789012345|MB-1234567890
FEFEFEFE-FEFE-FEFE-FEFE-FEFEFEFEFEFE|00010203-0405-0607-0809-0A0B0C0D0E0F|03000200-0400-0500-0006-000700080009
00020003-0004-0005-0006-000700080009|03020100-0504-0706-0809-0A0B0C0D0E0F|12345678-1234-5678-90AB-CDDEEFAABBCC
DEADBEEF-DEAD-BEEF-DEAD-BEEFDEADBEEF|4C4C4544-0000-2010-8020-80C04F202020|11111111-2222-3333-4444-555555555555|é|null
"""
GENUINE = """
PF4XK2M9|/7ABC123/CN1296164M00AB/|8412-7305-9916-4420-1573-6618-27|0025_38B4_1140_A1D2.|1234567A|ZF01234567X
03D40274-0435-05DC-8506-010700080009|00000000-0000-0000-0000-AC1F6B4D27E1|4C4C4544-0042-3510-8052-B3C04F4B4E32
"""


@pytest.fixture
def on_mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Strings:
    """The string of a recorded Mac: a program in place of ioreg, for us and for py-machineid."""
    program = tmp_path / "ioreg"
    monkeypatch.setattr(unix, "IOREG", str(program))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def string_of(platform_uuid: str, serial: str | None, script: str = "") -> str:
        program.write_text(f"#!/bin/sh\n{script}\ncat <<'END'\n{ioreg(platform_uuid, serial)}END\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(machineid, "platform", "darwin")
        return hardware.machine_string()

    return string_of


def test_a_mac_is_known_by_its_platform_uuid_and_its_serial(on_mac: Strings) -> None:
    uuid, serial = MACBOOK
    other = "564D5ACA-12F7-9E83-1C41-7F2A90B3D6E8"
    strings = {on_mac(*mac) for mac in (MACBOOK, (uuid, "C02FK3XHQ05P"), (other, serial), (uuid, None))}
    assert len(strings) == 4
    assert {on_mac(uuid.lower(), serial), on_mac(uuid, "0")} < strings


def test_a_mac_whose_ioreg_fails_or_hangs_gets_no_string(on_mac: Strings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HardwareUnknown, match="could not be read"):
        on_mac(*MACBOOK, script="exit 1")
    monkeypatch.setattr(hardware, "SECONDS", 0.2)
    with pytest.raises(HardwareUnknown, match=r"within 0\.2 seconds"):
        on_mac(*MACBOOK, script="exec sleep 2")


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


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> Strings:
    """The string of a recorded Windows machine, of which one call may fail."""

    def string_of(machine: Windows, failing: str = "", error: int | Exception = 0) -> str:
        def fails(*_: object) -> int | None:
            if isinstance(error, Exception):
                raise error
            return ctypes.c_void_p(-1).value if failing == "CreateFileW" else 0

        monkeypatch.setattr(sys, "platform", "win32")
        kernel32, winreg = kernel32_of(machine), winreg_of(machine)
        if failing:
            monkeypatch.setattr(winreg if hasattr(winreg, failing) else kernel32, failing, fails)
        libraries = {("kernel32", True): kernel32}
        monkeypatch.setattr(
            ctypes, "WinDLL", lambda name, use_last_error: libraries[name, use_last_error], raising=False
        )
        monkeypatch.setattr(ctypes, "get_last_error", lambda: error, raising=False)
        monkeypatch.setitem(sys.modules, "winreg", winreg)
        try:
            return hardware.machine_string()
        finally:
            assert kernel32.open_handles == 0

    return string_of


OTHER_UUID = "1a60b7d2-c493-4e21-8f05-fc34976620aa"


@for_each(
    ("machine", "changes", "stays"),
    [
        (THINKPAD, {"memory": ("", "Kingston"), "bios": "1.41"}, True),
        (THINKPAD, {"disk": "S5GXNX0W402210"}, True),
        (THINKPAD, {"system_serial": " pf4xk2m9  ", "machine_guid": str(THINKPAD.machine_guid).upper()}, True),
        (WHITE_LABEL, {"system_serial": "To be filled by O.E.M.", "bios": "1.41"}, True),
        (WHITE_LABEL, {"disk": "YMA14T0HA2250F"}, False),
        *(
            (THINKPAD, change, False)
            for change in (
                {"machine_guid": OTHER_UUID},
                {"machine_guid": None},
                {"system_uuid": OTHER_UUID},
                {"system_serial": "PF4Y81QC"},
                {"board_serial": "230417733506218"},
                {"board_serial": "Default string"},  # a BIOS that lost it
            )
        ),
    ],
)
def test_on_windows_it_stays_or_changes_with(
    machine: Windows, changes: dict[str, Any], on_windows: Strings, *, stays: bool
) -> None:
    assert (on_windows(machine) == on_windows(replace(machine, **changes))) is stays


@for_each(
    ("call", "error"),
    [
        ("GetSystemFirmwareTable", 5),
        ("GetSystemFirmwareTable", AttributeError("a Windows that lacks the call")),
        ("DeviceIoControl", 21),
        *(("GetSystemWindowsDirectoryW", absent) for absent in ABSENT),  # which every Windows has
        *(("CreateFileW", absent) for absent in ABSENT),
        ("OpenKey", FileNotFoundError(2, "The system cannot find the file specified")),
        ("QueryValueEx", PermissionError(13, "Access is denied")),
    ],
)
def test_a_windows_where_a_call_fails_gets_no_string(call: str, error: int | Exception, on_windows: Strings) -> None:
    with pytest.raises(HardwareUnknown, match="could not be read.*" + (f"Errno {error}" if error in ABSENT else "")):
        on_windows(WHITE_LABEL, call, error)


@for_each("error", ABSENT)
def test_what_a_windows_machine_does_not_have_is_left_out(error: int, on_windows: Strings) -> None:
    nothing_but_the_guid = hardware.digest({"machine_guid": str(WHITE_LABEL.machine_guid).replace("-", "")})
    assert on_windows(WHITE_LABEL, "DeviceIoControl", error) == nothing_but_the_guid
    assert on_windows(replace(WHITE_LABEL, disk=None)) == nothing_but_the_guid
    assert disk_serial_in(disk_descriptor(None)) is None
    without_firmware = replace(WHITE_LABEL, disk=THINKPAD.disk)
    assert on_windows(THINKPAD, "GetSystemFirmwareTable", error) == on_windows(
        replace(without_firmware, machine_guid=THINKPAD.machine_guid)
    )


def test_recorded_machines_keep_their_strings_in_every_release(
    on_mac: Strings, on_linux: Strings, on_windows: Strings
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
def test_what_was_written_into_the_firmwares_table_is_read(**written: Any) -> None:
    written["system_uuid"] = str(written["system_uuid"])
    assert identifiers_in(replace(THINKPAD, **written).firmware()) == written


@given(changes=st.dictionaries(st.integers(0, 600), st.integers(0, 255), max_size=8), odd=st.binary(max_size=2048))
def test_no_table_and_no_disk_descriptor_however_odd_raises(changes: dict[int, int], odd: bytes) -> None:
    raw = bytearray(THINKPAD.firmware())
    for at, byte in changes.items():
        raw[at % len(raw)] = byte
    for found in (identifiers_in(bytes(raw)), identifiers_in(odd), {"disk": disk_serial_in(odd)}):
        assert set(found) <= {"system_uuid", "system_serial", "board_serial", "disk"}
        assert all(value is None or isinstance(value, str) for value in found.values())


def test_a_table_cut_anywhere_yields_what_stands_before_the_cut() -> None:
    raw, whole = THINKPAD.firmware(), identifiers_in(THINKPAD.firmware())
    assert [length for length in range(len(raw)) if not identifiers_in(raw[:length]).items() <= whole.items()] == []


def test_the_first_board_counts_no_uuid_of_an_old_system_and_nothing_after_the_end() -> None:
    header, fields = bytes(8), bytes([0, 0, 0, 1])
    board = structure(2, fields, "FIRST-BOARD")
    assert identifiers_in(header + board + structure(2, fields, "RISER"))["board_serial"] == "FIRST-BOARD"
    old = structure(1, fields, "AB1234")  # SMBIOS 2.0: eight bytes
    assert identifiers_in(header + old) == {"system_serial": "AB1234", "system_uuid": None}
    assert identifiers_in(header + structure(127, b"") + structure(2, fields, "LATER")) == {}
