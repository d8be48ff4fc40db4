"""Linux, and every other system that is neither Windows nor macOS.

The firmware's UUID and serial numbers (`/sys/class/dmi/id/product_uuid` and its neighbours) are root's to read,
so they are not read at all: the same machine would have two strings. Boards with a device tree, Arm's, show
their serial number to everyone.
"""

from __future__ import annotations

import stat
from pathlib import Path

from kadun.hardware.genuine import genuine
from kadun.hardware.installation import machine_id

BOARD_SERIAL = Path("/sys/firmware/devicetree/base/serial-number")


def identifiers() -> dict[str, str]:
    """What this machine has, genuine ones only."""
    return genuine({"machine_id": machine_id(), "board_serial": _board_serial()})


def _board_serial() -> str | None:
    try:
        everybody_may = BOARD_SERIAL.stat().st_mode & stat.S_IROTH
        return BOARD_SERIAL.read_text(encoding="ascii", errors="replace") if everybody_may else None
    except OSError:
        return None
