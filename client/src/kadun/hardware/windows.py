"""Windows: calls that any user may make, and no other program started.

py-machineid is not asked here, though what it returns is what `_machine_guid` reads. It reads through a second
library, whose change of interface once made it fall back in silence on another identifier (keygen-sh/py-machineid
issue 23): an update would have changed every customer's string. So would a 32-bit build of the same program, to which
it shows the registry's other branch. The fallback, PowerShell, takes a second and has no time limit.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import wintypes
from typing import Any

from kadun.hardware.placeholders import without_placeholders
from kadun.hardware.smbios import identifiers_in

_RSMB = int.from_bytes(b"RSMB", "big")  # the provider of raw SMBIOS tables
_SHARE_READ_WRITE, _OPEN_EXISTING = 3, 3
_IOCTL_STORAGE_QUERY_PROPERTY = 0x002D1400
_STORAGE_DEVICE_PROPERTY = bytes(12)  # STORAGE_PROPERTY_QUERY: property 0, standard query, padding
_SERIAL_OFFSET_AT = 24  # in STORAGE_DEVICE_DESCRIPTOR
_LONGEST_PATH = 260
_LARGEST_DESCRIPTOR_BYTES = 4096
_INVALID_HANDLE = ctypes.c_void_p(-1).value
_NO_SUCH_THING = {1, 50, 1168}
"""ERROR_INVALID_FUNCTION, ERROR_NOT_SUPPORTED, ERROR_NOT_FOUND: this machine never answers this request.

Other errors may be gone at the next start, and then the string would be another one: they are raised.
"""


def identifiers() -> dict[str, str]:
    """What this machine has, genuine ones only.

    Windows copied with its disk shares the MachineGuid, and cheap boards report dummies. Where both may come
    together, and only there, the system disk's serial number tells machines apart.

    Raises:
        OSError: one could not be read. What this machine does not have is left out instead.
    """
    kernel32 = _kernel32()
    firmware = without_placeholders(identifiers_in(firmware_table(kernel32)))
    disk = {} if firmware else without_placeholders({"disk_serial": disk_serial_in(disk_descriptor(kernel32))})
    return {**without_placeholders({"machine_guid": _machine_guid()}), **firmware, **disk}


def firmware_table(kernel32: Any) -> bytes:  # noqa: ANN401 - a library's functions
    """RawSMBIOSData, or nothing where there is none (GetSystemFirmwareTable).

    Raises:
        OSError: the call failed for another reason.
    """
    size = kernel32.GetSystemFirmwareTable(_RSMB, 0, None, 0)
    if not size:
        return _nothing("GetSystemFirmwareTable")
    table = ctypes.create_string_buffer(size)
    written = kernel32.GetSystemFirmwareTable(_RSMB, 0, table, size)
    if not written:
        return _nothing("GetSystemFirmwareTable")
    if written > size:
        raise OSError("GetSystemFirmwareTable: the table grew meanwhile")
    return table.raw[:written]


def disk_descriptor(kernel32: Any) -> bytes:  # noqa: ANN401 - a library's functions
    """STORAGE_DEVICE_DESCRIPTOR of the disk with Windows on it, or nothing where its driver has none.

    The volume is opened for no access at all, which needs no privileges and suffices for this request.

    Raises:
        OSError: a call failed for another reason.
    """
    folder = ctypes.create_unicode_buffer(_LONGEST_PATH)
    if not kernel32.GetSystemWindowsDirectoryW(folder, _LONGEST_PATH):
        raise _failed("GetSystemWindowsDirectoryW")
    volume = kernel32.CreateFileW(rf"\\.\{folder.value[:2]}", 0, _SHARE_READ_WRITE, None, _OPEN_EXISTING, 0, None)
    if volume in (None, 0, _INVALID_HANDLE):
        raise _failed("CreateFileW")
    try:
        answer, written = ctypes.create_string_buffer(_LARGEST_DESCRIPTOR_BYTES), wintypes.DWORD()
        answered = kernel32.DeviceIoControl(
            volume,
            _IOCTL_STORAGE_QUERY_PROPERTY,
            ctypes.create_string_buffer(_STORAGE_DEVICE_PROPERTY, len(_STORAGE_DEVICE_PROPERTY)),
            len(_STORAGE_DEVICE_PROPERTY),
            answer,
            len(answer),
            ctypes.byref(written),
            None,
        )
        return answer.raw[: written.value] if answered else _nothing("DeviceIoControl")
    finally:
        kernel32.CloseHandle(volume)


def disk_serial_in(descriptor: bytes) -> str | None:
    """The serial number in a STORAGE_DEVICE_DESCRIPTOR, which names its place; 0 is none."""
    at = int.from_bytes(descriptor[_SERIAL_OFFSET_AT : _SERIAL_OFFSET_AT + 4], "little")
    return descriptor[at:].split(b"\0", 1)[0].decode("latin-1") if at else None


def _nothing(call: str) -> bytes:
    """No bytes, where the call that has just failed says that there are none to be had."""
    failure = _failed(call)
    if failure.errno in _NO_SUCH_THING:
        return b""
    raise failure


def _failed(call: str) -> OSError:
    if sys.platform == "win32":
        return OSError(ctypes.get_last_error(), f"{call} failed")
    return OSError(0, "this is not Windows")


def _kernel32() -> Any:  # noqa: ANN401 - a library's functions
    """Our own handle on the library, so that these declarations meet nobody else's."""
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
        import winreg  # noqa: PLC0415 - there is none elsewhere

        flags = winreg.KEY_READ | winreg.KEY_WOW64_64KEY  # 32-bit programs see another branch otherwise
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Microsoft\Cryptography", 0, flags) as key:
            try:
                return str(winreg.QueryValueEx(key, "MachineGuid")[0])
            except FileNotFoundError:  # the value alone may be absent; the key is on every Windows
                return None
    return None
