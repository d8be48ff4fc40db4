"""Identifiers on Windows, by system calls that every user may make; no other program is started.

py-machineid is not used here, although it returns what `_machine_guid` reads. A changed interface of a library that it
uses once made it fall back silently to another identifier (keygen-sh/py-machineid issue 23): an update would have
changed every customer's string. So would a 32-bit build, which reads the other branch of the registry.
"""

from __future__ import annotations

import ctypes
import sys
import uuid
from collections.abc import Iterator
from ctypes import wintypes
from typing import Any

from kadun.hardware.placeholders import without_placeholders

# The firmware's description of the machine, SMBIOS (DMTF DSP0134).
_RAW_HEADER_BYTES = 8  # RawSMBIOSData: calling method, version, revision, length
_HEADER_BYTES = 4  # of each structure: type, length, handle
_SYSTEM, _BOARD, _END = 1, 2, 127
_SERIAL_AT = 0x07  # in both structures
_UUID_AT, _UUID_END = 0x08, 0x18

_RSMB = int.from_bytes(b"RSMB", "big")  # the provider of raw SMBIOS tables
_SHARE_READ_WRITE, _OPEN_EXISTING = 3, 3
_IOCTL_STORAGE_QUERY_PROPERTY = 0x002D1400
_QUERY_BYTES = 12  # STORAGE_PROPERTY_QUERY: property 0 (the device), standard query, padding: all zero
_SERIAL_OFFSET_AT = 24  # in STORAGE_DEVICE_DESCRIPTOR
_LONGEST_PATH = 260
_LARGEST_DESCRIPTOR_BYTES = 4096
_LARGEST_TABLE_BYTES = 4 * 1024 * 1024  # SMBIOS 2 has 64 KiB at most
_INVALID_HANDLE = ctypes.c_void_p(-1).value
_NO_SUCH_THING = {1, 50, 1168}
"""ERROR_INVALID_FUNCTION, ERROR_NOT_SUPPORTED, ERROR_NOT_FOUND: this machine does not have the identifier.

Other errors are raised: if they were temporary, the next start would have another string.
"""


def identifiers() -> dict[str, str]:
    """Return this machine's identifiers, without placeholders.

    The serial number of the system disk is used only if the firmware has no identifier. Missing ones are left out.
    """
    kernel32 = _kernel32()
    firmware = without_placeholders(identifiers_in(firmware_table(kernel32)))
    disk = {} if firmware else without_placeholders({"disk_serial": disk_serial_in(disk_descriptor(kernel32))})
    return {**without_placeholders({"machine_guid": _machine_guid()}), **firmware, **disk}


def firmware_table(kernel32: Any) -> bytes:  # noqa: ANN401 - a ctypes library
    """Return RawSMBIOSData (GetSystemFirmwareTable), or nothing if there is none."""
    table = ctypes.create_string_buffer(_LARGEST_TABLE_BYTES)
    size = kernel32.GetSystemFirmwareTable(_RSMB, 0, table, len(table))
    if size > len(table):
        raise OSError(f"GetSystemFirmwareTable: the table has {size} bytes")
    return table.raw[:size] if size else _nothing("GetSystemFirmwareTable")


def disk_descriptor(kernel32: Any) -> bytes:  # noqa: ANN401 - a ctypes library
    """Return the STORAGE_DEVICE_DESCRIPTOR of the system disk, or nothing if its driver has none."""
    folder = ctypes.create_unicode_buffer(_LONGEST_PATH)
    if not kernel32.GetSystemWindowsDirectoryW(folder, _LONGEST_PATH):
        raise _failed("GetSystemWindowsDirectoryW")
    # Without access rights, which needs no privileges and is enough for this query.
    volume = kernel32.CreateFileW(rf"\\.\{folder.value[:2]}", 0, _SHARE_READ_WRITE, None, _OPEN_EXISTING, 0, None)
    if volume in (None, 0, _INVALID_HANDLE):
        raise _failed("CreateFileW")
    try:
        query = ctypes.create_string_buffer(_QUERY_BYTES)
        answer = ctypes.create_string_buffer(_LARGEST_DESCRIPTOR_BYTES)
        written, code = wintypes.DWORD(), _IOCTL_STORAGE_QUERY_PROPERTY
        answered = kernel32.DeviceIoControl(
            volume, code, query, len(query), answer, len(answer), ctypes.byref(written), None
        )
        return answer.raw[: written.value] if answered else _nothing("DeviceIoControl")
    finally:
        kernel32.CloseHandle(volume)


def identifiers_in(raw: bytes) -> dict[str, str | None]:
    """Return the system's UUID and serial number, and the first board's serial number, from RawSMBIOSData.

    A truncated or invalid table gives what precedes the error. Other structures, such as memory, are ignored.
    """
    found: dict[str, str | None] = {}
    for kind, formatted, strings in _structures(raw[_RAW_HEADER_BYTES:]):
        if kind == _SYSTEM and "system_serial" not in found:
            found["system_serial"] = _string(formatted, strings)
            raw_uuid = formatted[_UUID_AT:_UUID_END]  # its first three fields are little-endian (DSP0134, 7.2.1)
            whole = len(raw_uuid) == _UUID_END - _UUID_AT
            found["system_uuid"] = str(uuid.UUID(bytes_le=raw_uuid)) if whole else None
        elif kind == _BOARD and "board_serial" not in found:
            found["board_serial"] = _string(formatted, strings)
    return found


def _structures(table: bytes) -> Iterator[tuple[int, bytes, list[bytes]]]:
    """Yield each structure's type, its formatted part, and its strings, which end with two zero bytes."""
    at = 0
    while at + _HEADER_BYTES <= len(table):
        kind, length = table[at], table[at + 1]
        end = table.find(b"\0\0", at + length)
        if kind == _END or length < _HEADER_BYTES or end < 0:
            return
        yield kind, table[at : at + length], table[at + length : end].split(b"\0")
        at = end + 2


def _string(formatted: bytes, strings: list[bytes]) -> str | None:
    """Return the serial number; the formatted part contains its position among the strings, from 1."""
    place = formatted[_SERIAL_AT] if len(formatted) > _SERIAL_AT else 0
    return strings[place - 1].decode("latin-1") if 0 < place <= len(strings) else None


def disk_serial_in(descriptor: bytes) -> str | None:
    """Return the serial number of a STORAGE_DEVICE_DESCRIPTOR, which contains its offset; 0 means none."""
    at = int.from_bytes(descriptor[_SERIAL_OFFSET_AT : _SERIAL_OFFSET_AT + 4], "little")
    return descriptor[at:].split(b"\0", 1)[0].decode("latin-1") if at else None


def _nothing(call: str) -> bytes:
    failure = _failed(call)
    if failure.errno in _NO_SUCH_THING:
        return b""
    raise failure


def _failed(call: str) -> OSError:
    if sys.platform == "win32":
        return OSError(ctypes.get_last_error(), f"{call} failed")
    return OSError(0, "this is not Windows")


def _kernel32() -> Any:  # noqa: ANN401 - a ctypes library
    """Return a separate handle of the library, so that these declarations do not affect other code."""
    if sys.platform != "win32":
        raise OSError("this is not Windows")
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    dword, handle, pointer = wintypes.DWORD, wintypes.HANDLE, wintypes.LPVOID
    kernel32.GetSystemFirmwareTable.restype = wintypes.UINT
    kernel32.GetSystemFirmwareTable.argtypes = [dword, dword, pointer, dword]
    kernel32.GetSystemWindowsDirectoryW.argtypes = [wintypes.LPWSTR, wintypes.UINT]
    kernel32.CreateFileW.restype = handle
    kernel32.CreateFileW.argtypes = [wintypes.LPCWSTR, dword, dword, pointer, dword, dword, handle]
    kernel32.DeviceIoControl.argtypes = [handle, dword, pointer, dword, pointer, dword, pointer, pointer]
    kernel32.CloseHandle.argtypes = [handle]
    return kernel32


def _machine_guid() -> str | None:
    if sys.platform == "win32":
        import winreg  # noqa: PLC0415 - Windows only

        flags = winreg.KEY_READ | winreg.KEY_WOW64_64KEY  # otherwise 32-bit programs read another branch
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Microsoft\Cryptography", 0, flags) as key:
            try:
                return str(winreg.QueryValueEx(key, "MachineGuid")[0])
            except FileNotFoundError:  # the value may be absent; every Windows has the key
                return None
    return None
