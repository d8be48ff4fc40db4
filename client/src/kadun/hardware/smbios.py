"""Parses the firmware's description of the machine, SMBIOS (DMTF DSP0134), as Windows returns it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_RAW_HEADER_BYTES = 8  # RawSMBIOSData: calling method, version, revision, length
_HEADER_BYTES = 4  # of each structure: type, length, handle
_SYSTEM, _BOARD, _END = 1, 2, 127
_SERIAL_AT = 0x07  # in both structures
_UUID_AT, _UUID_END = 0x08, 0x18


def identifiers_in(raw: bytes) -> dict[str, str | None]:
    """Return the system's UUID and serial number, and the first board's serial number, from RawSMBIOSData.

    A truncated or invalid table gives what precedes the error; this function never raises. Other structures, such as
    memory and slots, are ignored.
    """
    found: dict[str, str | None] = {}
    for kind, formatted, strings in _structures(raw[_RAW_HEADER_BYTES:]):
        if kind == _SYSTEM and "system_serial" not in found:
            found["system_serial"] = _string(formatted, strings)
            found["system_uuid"] = _uuid(formatted)
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


def _uuid(formatted: bytes) -> str | None:
    """Format the UUID as Windows does: the first three fields are little-endian (DSP0134, 7.2.1)."""
    raw = formatted[_UUID_AT:_UUID_END]
    return str(uuid.UUID(bytes_le=raw)) if len(raw) == _UUID_END - _UUID_AT else None
