"""Identifiers on macOS."""

from __future__ import annotations

import re
import subprocess

from kadun.hardware.installation import machine_id
from kadun.hardware.placeholders import without_placeholders

IOREG = "/usr/sbin/ioreg"
_SECONDS = 10
_SERIAL = re.compile(r'"IOPlatformSerialNumber" = "([^"]+)"')


def identifiers() -> dict[str, str]:
    """Return this machine's identifiers, without placeholders."""
    command = [IOREG, "-rd1", "-c", "IOPlatformExpertDevice"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=_SECONDS)
    serial = serial_in(done.stdout.decode("utf-8", "replace"))
    return without_placeholders({"platform_uuid": machine_id(), "system_serial": serial})


def serial_in(shown: str) -> str | None:
    """Return the serial number from the output of `ioreg -rd1 -c IOPlatformExpertDevice`."""
    found = _SERIAL.search(shown)
    return found.group(1) if found else None
