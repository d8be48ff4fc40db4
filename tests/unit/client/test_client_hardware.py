"""The machine's own string: what changes it, what does not, and which failures leave no string.

The recorded machines have values of the shapes that such machines report; serial numbers and UUIDs are changed. The
bytes are laid out as the makers of these interfaces document them: DSP0134 for SMBIOS, ntddstor.h for disks.
"""
# Owns client-hardware.

import ctypes
import os
import re
import struct
import sys
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import machineid
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kadun import HardwareUnknown, hardware
from kadun.hardware import unix
from kadun.hardware.placeholders import without_placeholders
from kadun.hardware.windows import disk_serial_in, identifiers_in

from tests.support.client.fakes import FakeServer, MakeClient, refused
from tests.support.tables import for_each

Strings = Callable[..., str]

MACBOOK = ("6C1F5A52-8E4D-5F0B-9B39-4C7D5E0A1B2C", "C02FK3XHQ05N")
MACHINE_ID = "e08d2021fbdd6f894fde550c98aff54d"
RASPBERRY = "10000000a3f1c2d4"
OTHER_UUID = "1a60b7d2-c493-4e21-8f05-fc34976620aa"
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


def ioreg(platform_uuid: str, serial: str | None) -> str:
    """What `ioreg -rd1 -c IOPlatformExpertDevice` prints."""
    named = f'\n      "IOPlatformSerialNumber" = "{serial}"' if serial else ""
    return f"""+-o J293AP  <class IOPlatformExpertDevice, id 0x100000247, registered, matched, active, retain 37>
    {{
      "IOPolledInterface" = "AppleARMWatchdogTimerHibernateHandler is not serializable"
      "IOPlatformUUID" = "{platform_uuid}"{named}
    }}
"""


def structure(kind: int, formatted: bytes, *strings: str) -> bytes:
    """One SMBIOS structure; `formatted` follows the header of four bytes."""
    told = b"".join(text.encode("latin-1") + b"\0" for text in strings) or b"\0"
    return struct.pack("<BBH", kind, 4 + len(formatted), kind << 8) + formatted + told + b"\0"


def disk_descriptor(serial: str | None) -> bytes:
    """STORAGE_DEVICE_DESCRIPTOR of an NVMe disk."""
    model, at = b"Samsung SSD 980 PRO 1TB\0", 36
    placed = 0 if serial is None else at + len(model)
    head = struct.pack("<IIBBBBIIIIII", at, placed, 0, 0, 0, 1, 0, at, 0, placed, 17, 0)
    return head + model + (serial or "").encode("ascii") + b"\0"


@dataclass(frozen=True)
class Windows:
    """What its registry, SMBIOS and disk say; None is a string that the structure does not name."""

    machine_guid: str | None
    system_uuid: str
    system_serial: str | None
    board_serial: str | None
    disk: str | None = "0025_38B4_1140_A1D2."
    bios: str = "1.40"
    memory: tuple[str, ...] = ("Samsung",)

    def firmware(self) -> bytes:
        """RawSMBIOSData, as GetSystemFirmwareTable gives it."""
        (system, system_names), (board, board_names) = (
            (bytes([1, 2, 3, 4 if serial else 0]), ["LENOVO", "21HMCTO1WW", "X1", *([serial] if serial else [])])
            for serial in (self.system_serial, self.board_serial)
        )
        table = structure(0, bytes([1, 2, 0, 0xE0, 3, 0xFF]) + bytes(14), "AMI", self.bios, "11/14/2024")
        table += structure(1, system + uuid.UUID(self.system_uuid).bytes_le + bytes([6, 0, 0]), *system_names)
        table += structure(2, board + bytes([0, 9, 0]), *board_names)
        table += structure(3, bytes([1, 10, 0, 2]) + bytes(9), "LENOVO", "Default string")
        for maker in self.memory:
            table += structure(17, bytes(23) + bytes([1, 2, 0]), maker, "0F1E2D3C")
        table += structure(127, b"")
        return struct.pack("<BBBBI", 0, 3, 4, 0, len(table)) + table


# A maker's notebook, on which everything is genuine; and a board without a maker, with dummies alone.
THINKPAD = Windows(
    "5f0b6c1d-93a4-4c7e-8f25-d1a0e86b3c47", "c2a1f6cc-2f4b-11ee-8a5d-6c2408d19b1f", "PF4XK2M9", "L1HF3AB01DE"
)
WHITE_LABEL = Windows(
    "2d6f8ab0-47c9-4f7b-b3be-5b0f4d7e91c2", "03000200-0400-0500-0006-000700080009", "Default string", "0"
)


class Kernel32:
    """As much of Windows' kernel32 as is asked for. Plain functions, since ctypes' take attributes too."""

    def __init__(self, machine: Windows) -> None:
        self.open_handles = 0
        firmware, descriptor = machine.firmware(), disk_descriptor(machine.disk)

        def firmware_table(provider: int, table: int, buffer: Any, size: int) -> int:
            assert (provider, table, size >= len(firmware)) == (0x52534D42, 0, True)
            ctypes.memmove(buffer, firmware, len(firmware))
            return len(firmware)

        def windows_directory(buffer: Any, size: int) -> int:
            buffer.value = r"D:\Windows"
            assert size >= len(buffer.value)
            return len(buffer.value)

        def create_file(path: str, access: int, *_: object) -> int:
            assert (path, access) == (r"\\.\D:", 0)
            self.open_handles += 1
            return 0x1A4

        def device_io_control(*arguments: Any) -> int:
            handle, code, query, query_size, answer, answer_size, written, overlapped = arguments
            assert (handle, code, query.raw, query_size, overlapped) == (0x1A4, 0x2D1400, bytes(12), 12, None)
            assert answer_size >= len(descriptor)
            ctypes.memmove(answer, descriptor, len(descriptor))
            written._obj.value = len(descriptor)  # noqa: SLF001 - what byref points to
            return 1

        def close_handle(handle: int) -> None:
            assert handle == 0x1A4
            self.open_handles -= 1

        self.GetSystemFirmwareTable, self.GetSystemWindowsDirectoryW = firmware_table, windows_directory
        self.CreateFileW, self.DeviceIoControl, self.CloseHandle = create_file, device_io_control, close_handle


def winreg_of(machine: Windows) -> SimpleNamespace:
    """As much of Windows' winreg as is asked for; the 64-bit branch alone holds the MachineGuid."""

    def open_key(*arguments: object) -> nullcontext[None]:
        assert arguments == (0x80000002, r"SOFTWARE\Microsoft\Cryptography", 0, 0x20019 | 0x0100)
        return nullcontext()

    def query_value(_key: None, name: str) -> tuple[str, int]:
        assert name == "MachineGuid"
        if machine.machine_guid is None:
            raise FileNotFoundError(2, "The system cannot find the file specified")
        return machine.machine_guid, 1

    constants = {"KEY_READ": 0x20019, "KEY_WOW64_64KEY": 0x0100, "HKEY_LOCAL_MACHINE": 0x80000002}
    return SimpleNamespace(OpenKey=open_key, QueryValueEx=query_value, **constants)


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


@pytest.fixture
def on_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Strings:
    """The string of a recorded Linux machine."""
    tmp_path.chmod(0o755)  # so that everybody may read the files in it
    machine_file, board_file = tmp_path / "machine-id", tmp_path / "serial-number"
    monkeypatch.setattr(unix, "BOARD_SERIAL", board_file)
    monkeypatch.setattr(unix, "MACHINE_ID", machine_file)

    def string_of(machine_id: str | None, board: str | None = None, mode: int = 0o444, dbus: str | None = None) -> str:
        monkeypatch.setattr(sys, "platform", "linux")
        files = {"/etc/machine-id": machine_id, "/var/lib/dbus/machine-id": dbus}
        monkeypatch.setattr(machineid, "__read__", files.get)
        for file, content in ((machine_file, machine_id and f"{machine_id}\n"), (board_file, board and f"{board}\0")):
            file.unlink(missing_ok=True)
            if content is not None:
                file.write_text(content, encoding="utf-8")
                file.chmod(mode if file is board_file else 0o444)
        return hardware.machine_string()

    return string_of


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> Strings:
    """The string of a recorded Windows machine, of which one call may fail."""

    def string_of(machine: Windows, failing: str = "", error: int | Exception = 0) -> str:
        def fails(*_: object) -> int | None:
            if isinstance(error, Exception):
                raise error
            return ctypes.c_void_p(-1).value if failing == "CreateFileW" else 0

        monkeypatch.setattr(sys, "platform", "win32")
        kernel32, winreg = Kernel32(machine), winreg_of(machine)
        if failing:
            monkeypatch.setattr(winreg if hasattr(winreg, failing) else kernel32, failing, fails)
        loaded = {("kernel32", True): kernel32}
        monkeypatch.setattr(ctypes, "WinDLL", lambda name, use_last_error: loaded[name, use_last_error], raising=False)
        monkeypatch.setattr(ctypes, "get_last_error", lambda: error, raising=False)
        monkeypatch.setitem(sys.modules, "winreg", winreg)
        try:
            return hardware.machine_string()
        finally:
            assert kernel32.open_handles == 0

    return string_of


def test_recorded_machines_keep_their_strings_in_every_release(
    on_mac: Strings, on_linux: Strings, on_windows: Strings
) -> None:
    """A change here would unbind every customer."""
    assert on_linux(MACHINE_ID) == "kadun2:6697d8b6023f9c773cf51b87d21b3b6a18e90b7b5de09ae24e281d42c8f97843"
    assert on_windows(THINKPAD) == "kadun2:dbdfed7466c9684609cce0e6e770833281f9e9d2f102efaab708183dae59dc98"
    assert on_mac(*MACBOOK) == "kadun2:020272ec27d38b369a0a2c3d90d344d0282a8d5315d51fd7c744479accd500f0"
    of_a_program = "kadun2:6936dccedcb5da3d3c485a61d7927c81f3b3a433aa5f0754efbad953a6d4df27"
    for identifiers in ({"b": "2", "a": "1"}, {"a": "1", "b": "2"}):
        assert hardware.digest(identifiers, "账本") == of_a_program != hardware.digest(identifiers, "ledger")
    dummies, genuine = (texts.strip("\n").replace("\n", "|").split("|") for texts in (DUMMIES, GENUINE))
    assert [dummy for dummy in dummies if without_placeholders({"it": dummy})] == []
    assert [value for value in genuine if not without_placeholders({"it": value})] == []


def test_a_mac_is_known_by_its_platform_uuid_and_its_serial_and_gets_no_string_if_ioreg_fails_or_hangs(
    on_mac: Strings, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform_uuid, serial = MACBOOK
    others = ((platform_uuid, "C02FK3XHQ05P"), (OTHER_UUID, serial), (platform_uuid, None))
    strings = {on_mac(*mac) for mac in (MACBOOK, *others)}
    assert len(strings) == 4
    assert {on_mac(platform_uuid.lower(), serial), on_mac(platform_uuid, "0")} < strings
    with pytest.raises(HardwareUnknown, match="could not be read"):
        on_mac(*MACBOOK, script="exit 1")
    monkeypatch.setattr(hardware, "SECONDS", 0.2)
    with pytest.raises(HardwareUnknown, match=r"within 0\.2 seconds"):
        on_mac(*MACBOOK, script="exec sleep 2")


def test_linux_is_known_by_its_machine_id_and_the_boards_serial(on_linux: Strings) -> None:
    other = MACHINE_ID[::-1]
    strings = {on_linux(MACHINE_ID), on_linux(other)}
    strings |= {on_linux(MACHINE_ID, board) for board in (RASPBERRY, "10000000b7e09d15")}  # one memory card copied
    assert len(strings) == 4
    for board, mode in (("0000000000000000", 0o444), (RASPBERRY, 0o400)):  # the last is read by root alone
        assert on_linux(MACHINE_ID, board, mode) == on_linux(MACHINE_ID)
    assert on_linux(MACHINE_ID, dbus=other) == on_linux(MACHINE_ID)  # that of D-Bus counts only without the other
    assert on_linux(None, dbus=other) == on_linux("uninitialized", dbus=other) == on_linux(other)


@for_each("name", ["MACHINE_ID", "BOARD_SERIAL"])
def test_a_linux_where_an_identifier_cannot_be_read_gets_no_string_rather_than_another(
    name: str, on_linux: Strings, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_linux(MACHINE_ID, dbus=MACHINE_ID)
    with monkeypatch.context() as patched:
        patched.setattr(unix, name, unix.BOARD_SERIAL.parent)  # a folder: not even root reads it
        with pytest.raises(HardwareUnknown, match="IsADirectoryError"):
            hardware.machine_string()


@for_each("machine_id", ["", "uninitialized", "0" * 32, "00000000-0000-0000-0000-000000000000", "é", "12", None])
def test_a_machine_without_an_identifier_opens_only_with_the_vendors_own_string(
    machine_id: str | None, on_linux: Strings, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machineid, "__exec__", lambda _command: None)
    with pytest.raises(HardwareUnknown, match="hardware="):
        on_linux(machine_id)
    assert "seller" in refused(make_client(hardware=None, language="en"), HardwareUnknown).message
    assert make_client(hardware="my own").open().accepted
    monkeypatch.setattr(machineid, "id", lambda: "fbc23b5cadda6cc8" * 4)  # a container's, which each start changes
    with pytest.raises(HardwareUnknown):
        on_linux(None)


def test_the_client_uses_it_unless_told_otherwise_and_it_hides_what_it_is_made_of(
    on_linux: Strings, make_client: MakeClient, server: FakeServer
) -> None:
    assert re.fullmatch(r"kadun2:[0-9a-f]{64}", on_linux(MACHINE_ID))
    assert MACHINE_ID not in hardware.machine_string("账本")
    make_client(hardware=None, program="账本").open()
    make_client(hardware="my own").open()
    assert [request["hardware"] for request in server.requests] == [hardware.machine_string("账本"), "my own"]


@for_each(
    "machine, changes, stays",
    [
        (THINKPAD, {"memory": ("", "Kingston"), "bios": "1.41"}, True),
        (THINKPAD, {"disk": "S5GXNX0W402210"}, True),
        (THINKPAD, {"system_serial": " pf4xk2m9  ", "machine_guid": str(THINKPAD.machine_guid).upper()}, True),
        (WHITE_LABEL, {"system_serial": "To be filled by O.E.M.", "bios": "1.41"}, True),
        (WHITE_LABEL, {"disk": "YMA14T0HA2250F"}, False),
        *((THINKPAD, {"machine_guid": guid}, False) for guid in (OTHER_UUID, None)),
        (THINKPAD, {"system_uuid": OTHER_UUID}, False),
        (THINKPAD, {"system_serial": "PF4Y81QC"}, False),
        *((THINKPAD, {"board_serial": board}, False) for board in ("230417733506218", "Default string")),  # or lost
    ],
)
def test_on_windows_it_stays_or_changes_with(
    machine: Windows, changes: dict[str, Any], on_windows: Strings, *, stays: bool
) -> None:
    assert (on_windows(machine) == on_windows(replace(machine, **changes))) is stays


@for_each(
    "call, error",
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
    guid_alone = hardware.digest({"machine_guid": str(WHITE_LABEL.machine_guid).replace("-", "")})
    assert on_windows(WHITE_LABEL, "DeviceIoControl", error) == guid_alone
    assert on_windows(replace(WHITE_LABEL, disk=None)) == guid_alone
    assert disk_serial_in(disk_descriptor(None)) is None
    without_firmware = replace(WHITE_LABEL, disk=THINKPAD.disk, machine_guid=THINKPAD.machine_guid)
    assert on_windows(THINKPAD, "GetSystemFirmwareTable", error) == on_windows(without_firmware)


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
        assert all(value is None or isinstance(value, str) for value in found.values())


def test_a_table_cut_anywhere_yields_what_stands_before_the_cut_and_of_two_boards_the_first() -> None:
    raw, whole = THINKPAD.firmware(), identifiers_in(THINKPAD.firmware())
    assert [length for length in range(len(raw)) if not identifiers_in(raw[:length]).items() <= whole.items()] == []
    header, fields = bytes(8), bytes([0, 0, 0, 1])
    board = structure(2, fields, "FIRST-BOARD")
    assert identifiers_in(header + board + structure(2, fields, "RISER"))["board_serial"] == "FIRST-BOARD"
    old = structure(1, fields, "AB1234")  # SMBIOS 2.0: eight bytes, without a UUID
    assert identifiers_in(header + old) == {"system_serial": "AB1234", "system_uuid": None}
    assert identifiers_in(header + structure(127, b"") + structure(2, fields, "LATER")) == {}
