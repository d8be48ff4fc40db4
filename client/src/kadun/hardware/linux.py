"""Identifiers on Linux, and on every other system that is neither Windows nor macOS.

Only root may read the UUID and the serial numbers of the firmware (`/sys/class/dmi/id/product_uuid` and others). They
are not used, because the same machine would have two strings. Boards with a device tree (Arm) show their serial number
to everyone.
"""

from __future__ import annotations

import stat
import sys
from pathlib import Path

from kadun.hardware.installation import in_form, machine_id
from kadun.hardware.placeholders import without_placeholders

MACHINE_ID = Path("/etc/machine-id")
BOARD_SERIAL = Path("/sys/firmware/devicetree/base/serial-number")


def identifiers() -> dict[str, str]:
    """Return this machine's identifiers, without placeholders."""
    return without_placeholders({"machine_id": _machine_id(), "board_serial": _board_serial()})


def _machine_id() -> str | None:
    # systemd's (machine-id(5)) first: py-machineid prefers that of D-Bus, which an image may contain.
    if sys.platform.startswith("linux"):
        try:
            found = in_form(MACHINE_ID.read_text(encoding="ascii", errors="replace").strip())
        except FileNotFoundError:
            found = None
        if found:
            return found
    return machine_id()


def _board_serial() -> str | None:
    try:
        everybody_may = BOARD_SERIAL.stat().st_mode & stat.S_IROTH
        return BOARD_SERIAL.read_text(encoding="ascii", errors="replace") if everybody_may else None
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
