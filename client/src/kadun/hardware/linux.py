"""Linux, and every other system that is neither Windows nor macOS.

The firmware's UUID and serial numbers (`/sys/class/dmi/id/product_uuid` and its neighbours) are root's to read,
so they are not read at all: the same machine would have two strings. Boards with a device tree, Arm's, show
their serial number to everyone.
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
    """What this machine has, genuine ones only.

    Raises:
        OSError: one is there, but could not be read.
    """
    return without_placeholders({"machine_id": _machine_id(), "board_serial": _board_serial()})


def _machine_id() -> str | None:
    """That of systemd (machine-id(5)). py-machineid begins with D-Bus's, which an image may have left behind."""
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
