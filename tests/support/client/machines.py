"""Recorded machines: what Windows' registry and firmware and macOS' ioreg say on them.

The values are of the shapes that such machines report; serial numbers and UUIDs are changed. The bytes are laid
out as the makers of these interfaces document them: DSP0134 for SMBIOS, ntddstor.h for disks.
"""

import ctypes
import struct
import uuid
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

MACBOOK = ("6C1F5A52-8E4D-5F0B-9B39-4C7D5E0A1B2C", "C02FK3XHQ05N")


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
        system, board = (
            (
                bytes([1, 2, 3, 0 if serial is None else 4]),
                ["LENOVO", "21HMCTO1WW", "X1", *([serial] if serial else [])],
            )
            for serial in (self.system_serial, self.board_serial)
        )
        table = b"".join(
            [
                structure(0, bytes([1, 2, 0, 0xE0, 3, 0xFF]) + bytes(14), "AMI", self.bios, "11/14/2024"),
                structure(1, system[0] + uuid.UUID(self.system_uuid).bytes_le + bytes([6, 0, 0]), *system[1]),
                structure(2, board[0] + bytes([0, 9, 0]), *board[1]),
                structure(3, bytes([1, 10, 0, 2]) + bytes(9), "LENOVO", "Default string"),
                *(structure(17, bytes(23) + bytes([1, 2, 0]), maker, "0F1E2D3C") for maker in self.memory),
                structure(127, b""),
            ]
        )
        return struct.pack("<BBBBI", 0, 3, 4, 0, len(table)) + table


THINKPAD = Windows(
    "5f0b6c1d-93a4-4c7e-8f25-d1a0e86b3c47", "c2a1f6cc-2f4b-11ee-8a5d-6c2408d19b1f", "PF4XK2M9", "L1HF3AB01DE"
)
"""A maker's notebook: everything is genuine."""

WHITE_LABEL = Windows(
    "2d6f8ab0-47c9-4f7b-b3be-5b0f4d7e91c2", "03000200-0400-0500-0006-000700080009", "Default string", "0"
)
"""A board without a maker: dummies alone."""


def kernel32_of(machine: Windows) -> SimpleNamespace:
    """As much of Windows' kernel32 as is asked for. Plain functions, since ctypes' take attributes too."""
    firmware, descriptor = machine.firmware(), disk_descriptor(machine.disk)

    def firmware_table(provider: int, table: int, buffer: Any, size: int) -> int:
        assert (provider, table) == (0x52534D42, 0)
        assert size >= len(firmware)
        ctypes.memmove(buffer, firmware, len(firmware))
        return len(firmware)

    def windows_directory(buffer: Any, size: int) -> int:
        buffer.value = r"D:\Windows"
        assert size >= len(buffer.value)
        return len(buffer.value)

    def create_file(path: str, access: int, *_: object) -> int:
        assert (path, access) == (r"\\.\D:", 0)
        kernel32.open_handles += 1
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
        kernel32.open_handles -= 1

    kernel32 = SimpleNamespace(
        open_handles=0,
        GetSystemFirmwareTable=firmware_table,
        GetSystemWindowsDirectoryW=windows_directory,
        CreateFileW=create_file,
        DeviceIoControl=device_io_control,
        CloseHandle=close_handle,
    )
    return kernel32


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

    return SimpleNamespace(
        KEY_READ=0x20019,
        KEY_WOW64_64KEY=0x0100,
        HKEY_LOCAL_MACHINE=0x80000002,
        OpenKey=open_key,
        QueryValueEx=query_value,
    )
