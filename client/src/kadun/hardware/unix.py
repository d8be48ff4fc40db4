"""Identifiers on macOS, on Linux, and on every other system but Windows.

On Linux only root may read the firmware's UUID and serial numbers (`/sys/class/dmi/id/product_uuid`). They are not
used: the same machine would have two strings. Boards with a device tree (Arm) show their serial number to everyone.
"""

from __future__ import annotations

import re
import stat
import sys
from contextlib import suppress
from pathlib import Path

from kadun.hardware.placeholders import without_placeholders

MACHINE_ID = Path("/etc/machine-id")
BOARD_SERIAL = Path("/sys/firmware/devicetree/base/serial-number")
IOREG = "/usr/sbin/ioreg"
_IOREG_SECONDS = 10
_SERIAL = re.compile(r'"IOPlatformSerialNumber" = "([^"]+)"')
_ID = re.compile(r"[0-9A-Fa-f]{32}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def identifiers() -> dict[str, str]:
    """Return this machine's identifiers, without placeholders."""
    if sys.platform == "darwin":
        found = {"platform_uuid": _installed_id(), "system_serial": _mac_serial()}
    else:
        found = {"machine_id": _machine_id(), "board_serial": _board_serial()}
    return without_placeholders(found)


def _mac_serial() -> str | None:
    import subprocess  # noqa: PLC0415 - slow to import, and not needed on Linux

    command = [IOREG, "-rd1", "-c", "IOPlatformExpertDevice"]
    pipe, no = subprocess.PIPE, subprocess.DEVNULL
    done = subprocess.run(command, stdout=pipe, stderr=no, check=True, timeout=_IOREG_SECONDS)
    serial = _SERIAL.search(done.stdout.decode("utf-8", "replace"))
    return serial.group(1) if serial else None


def _machine_id() -> str | None:
    # systemd's (machine-id(5)) first: py-machineid prefers that of D-Bus, which an image may contain.
    if sys.platform.startswith("linux"):
        with suppress(FileNotFoundError):
            if found := _in_form(MACHINE_ID.read_text(encoding="ascii", errors="replace").strip()):
                return found
    return _installed_id()


def _board_serial() -> str | None:
    try:
        everybody_may = BOARD_SERIAL.stat().st_mode & stat.S_IROTH
        return BOARD_SERIAL.read_text(encoding="ascii", errors="replace") if everybody_may else None
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def _installed_id() -> str | None:
    import machineid  # noqa: PLC0415 - it imports subprocess and platform, which slow down the start

    try:
        return _in_form(str(machineid.id()))  # not the container's name, its last resort, which changes with each start
    except machineid.MachineIdNotFound:
        return None


def _in_form(found: str) -> str | None:
    return found if _ID.fullmatch(found) else None
