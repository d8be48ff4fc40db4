"""Recorded machines: what Windows' registry and firmware, macOS' ioreg and Linux' files say on them.

The values are of the shapes that such machines report; serial numbers and UUIDs are changed. The bytes are laid
out as the makers of these interfaces document them: DSP0134 for SMBIOS, ntddstor.h for disks.
"""

from __future__ import annotations

import ctypes
import struct
import uuid
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

INVALID_HANDLE = ctypes.c_void_p(-1).value


def structure(kind: int, formatted: bytes, *strings: str) -> bytes:
    """One SMBIOS structure; `formatted` follows the header of four bytes."""
    told = b"".join(text.encode("latin-1") + b"\0" for text in strings) or b"\0"
    return struct.pack("<BBH", kind, 4 + len(formatted), kind << 8) + formatted + told + b"\0"


@dataclass(frozen=True)
class Firmware:
    """What SMBIOS says; None is a string that the structure does not name."""

    system_uuid: str
    system_serial: str | None
    board_serial: str | None
    bios: tuple[str, ...] = ("American Megatrends International, LLC.", "1.40", "11/14/2024")
    chassis_serial: str = "Default string"
    memory: tuple[str, ...] = ("Samsung",)

    def table(self) -> bytes:
        system = ["LENOVO", "21HMCTO1WW", "ThinkPad X1 Carbon Gen 11", *_named(self.system_serial)]
        board = ["LENOVO", "21HMCTO1WW", "Not Defined", *_named(self.board_serial)]
        system_form = bytes([1, 2, 3, 4 if self.system_serial is not None else 0])
        board_form = bytes([1, 2, 3, 4 if self.board_serial is not None else 0])
        return b"".join(
            [
                structure(0, bytes([1, 2, 0, 0xE0, 3, 0xFF]) + bytes(14), *self.bios),
                structure(1, system_form + uuid.UUID(self.system_uuid).bytes_le + bytes([6, 0, 0]), *system),
                structure(2, board_form + bytes([0, 9, 0]), *board),
                structure(3, bytes([1, 10, 0, 2]) + bytes(9), "LENOVO", self.chassis_serial),
                *(structure(17, bytes(23) + bytes([1, 2, 0]), maker, "0F1E2D3C") for maker in self.memory),
                structure(127, b""),
            ]
        )

    def raw(self) -> bytes:
        """RawSMBIOSData, as GetSystemFirmwareTable gives it."""
        table = self.table()
        return struct.pack("<BBBBI", 0, 3, 4, 0, len(table)) + table


def _named(text: str | None) -> list[str]:
    return [] if text is None else [text]


def disk_descriptor(serial: str | None) -> bytes:
    """STORAGE_DEVICE_DESCRIPTOR of an NVMe disk."""
    model, at = b"Samsung SSD 980 PRO 1TB\0", 36
    placed = 0 if serial is None else at + len(model)
    said = b"" if serial is None else serial.encode("ascii") + b"\0"
    head = struct.pack("<IIBBBBIIIIII", at, placed, 0, 0, 0, 1, 0, at, 0, placed, 17, 0)
    return head + model + said


@dataclass(frozen=True)
class Windows:
    machine_guid: str | None
    firmware: Firmware | None
    disk: str | None = "0025_38B4_1140_A1D2."

    def but(self, **changes: Any) -> Windows:
        return replace(self, **changes)

    def flashed(self, **changes: Any) -> Windows:
        """The same with other words in its firmware."""
        assert self.firmware
        return replace(self, firmware=replace(self.firmware, **changes))


THINKPAD = Windows(
    "5f0b6c1d-93a4-4c7e-8f25-d1a0e86b3c47",
    Firmware("c2a1f6cc-2f4b-11ee-8a5d-6c2408d19b1f", "PF4XK2M9", "L1HF3AB01DE"),
)
"""A maker's notebook: everything is genuine."""

SELF_BUILT = Windows(
    "b81d24e7-0c6f-4f0e-9a53-7720d4f19e60",
    Firmware("7b3c9e20-51d4-9a2f-4e6b-fc3497a1d05e", "System Serial Number", "220213589104752"),
)
"""A board bought in a shop: the system has no serial number, the board has one."""

WHITE_LABEL = Windows(
    "2d6f8ab0-47c9-4f7b-b3be-5b0f4d7e91c2",
    Firmware("03000200-0400-0500-0006-000700080009", "Default string", "Default string"),
)
"""A board without a maker: dummies alone."""

VIRTUALBOX = Windows(
    "30c4b9f2-e7d8-4a65-b7a1-94d25c3e1f08",
    Firmware("a7e1d3f4-5b2c-4d08-9f36-1c7b8e90a542", "0", "0"),
    disk="VB4f2c1d9e-7a3b5c8d",
)
KVM = Windows(
    "47a90d3e-b15c-4e82-9c6f-d08e7b2a6513",
    Firmware("762931c8-6808-4c55-9817-3b0f3288213f", None, None),
    disk=None,
)
ALL_WINDOWS = (THINKPAD, SELF_BUILT, WHITE_LABEL, VIRTUALBOX, KVM)


class Registry(ModuleType):
    """As much of Windows' winreg as is asked for; the 64-bit branch alone holds the MachineGuid."""

    KEY_READ, KEY_WOW64_64KEY, HKEY_LOCAL_MACHINE = 0x20019, 0x0100, 0x80000002

    def __init__(self, guid: str | None, key_failure: OSError | None = None, failure: OSError | None = None) -> None:
        super().__init__("winreg")
        self.guid = guid
        self.key_failure = key_failure
        self.failure = failure

    def OpenKey(  # noqa: N802 - as Windows has it
        self, root: int, path: str, _reserved: int, access: int
    ) -> nullcontext[str]:
        assert (root, access) == (self.HKEY_LOCAL_MACHINE, self.KEY_READ | self.KEY_WOW64_64KEY)
        if self.key_failure:
            raise self.key_failure
        return nullcontext(path)

    def QueryValueEx(self, key: str, name: str) -> tuple[str, int]:  # noqa: N802 - as Windows has it
        assert (key, name) == (r"SOFTWARE\Microsoft\Cryptography", "MachineGuid")
        if self.failure:
            raise self.failure
        if self.guid is None:
            raise FileNotFoundError(2, "The system cannot find the file specified")
        return self.guid, 1


class Kernel32:
    """As much of Windows' kernel32 as is asked for. Plain functions, since ctypes' take attributes too.

    `failing` is a call that fails, with this error.
    """

    def __init__(self, machine: Windows, failing: str = "", error: int = 0) -> None:
        self.open_handles = 0
        self.last_error = 0
        firmware = machine.firmware.raw() if machine.firmware else b""
        descriptor = disk_descriptor(machine.disk)

        def firmware_table(provider: int, table: int, buffer: Any, size: int) -> int:
            assert (provider, table) == (0x52534D42, 0)
            if not firmware:
                self.last_error = 1  # ERROR_INVALID_FUNCTION: no such provider
            if buffer is not None and size >= len(firmware):
                ctypes.memmove(buffer, firmware, len(firmware))
            return len(firmware)

        def windows_directory(buffer: Any, size: int) -> int:
            buffer.value = r"D:\Windows"
            assert size >= len(buffer.value)
            return len(buffer.value)

        def create_file(path: str, access: int, *_: object) -> int | None:
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

        def close_handle(handle: int) -> int:
            assert handle == 0x1A4
            self.open_handles -= 1
            return 1

        self.GetSystemFirmwareTable = firmware_table
        self.GetSystemWindowsDirectoryW = windows_directory
        self.CreateFileW = create_file
        self.DeviceIoControl = device_io_control
        self.CloseHandle = close_handle
        if failing:
            self._fail(failing, error)

    def _fail(self, failing: str, error: int) -> None:
        call = failing.rsplit(maxsplit=1)[-1]
        works = getattr(self, call)

        def fails(*arguments: Any) -> int | None:
            if failing.startswith("the second") and arguments[2] is None:  # the first asks for the size
                return works(*arguments)  # type: ignore[no-any-return]
            self.last_error = error
            return INVALID_HANDLE if call == "CreateFileW" else 0

        setattr(self, call, fails)


def ioreg(platform_uuid: str, serial: str | None) -> str:
    """What `ioreg -rd1 -c IOPlatformExpertDevice` prints."""
    named = f'\n      "IOPlatformSerialNumber" = "{serial}"' if serial else ""
    return f"""+-o J293AP  <class IOPlatformExpertDevice, id 0x100000247, registered, matched, active, retain 37>
    {{
      "manufacturer" = <"Apple Inc.">
      "model" = <"MacBookPro17,1">
      "IOPolledInterface" = "AppleARMWatchdogTimerHibernateHandler is not serializable"
      "IOPlatformUUID" = "{platform_uuid}"{named}
      "target-type" = <"J293">
    }}
"""


MACBOOK = ("6C1F5A52-8E4D-5F0B-9B39-4C7D5E0A1B2C", "C02FK3XHQ05N")
MAC_IN_VMWARE = ("564D5ACA-12F7-9E83-1C41-7F2A90B3D6E8", "VMAB12CD34EF")
MAC_WITHOUT_SERIAL = ("B7D0A3E1-55C2-5E8F-8A94-2F63D1C0E7B9", "0")
