"""macOS: what the platform says of itself."""

from __future__ import annotations

import re
import subprocess

from kadun.hardware.installation import machine_id
from kadun.hardware.placeholders import without_placeholders

IOREG = "/usr/sbin/ioreg"
_SECONDS = 10
_SERIAL = re.compile(r'"IOPlatformSerialNumber" = "([^"]+)"')


def identifiers() -> dict[str, str]:
    """What this machine has, genuine ones only.

    Raises:
        subprocess.SubprocessError: ioreg failed.
        OSError: it could not be started.
    """
    command = [IOREG, "-rd1", "-c", "IOPlatformExpertDevice"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=_SECONDS)
    serial = serial_in(done.stdout.decode("utf-8", "replace"))
    return without_placeholders({"platform_uuid": machine_id(), "system_serial": serial})


def serial_in(shown: str) -> str | None:
    """The serial number in what `ioreg -rd1 -c IOPlatformExpertDevice` prints."""
    found = _SERIAL.search(shown)
    return found.group(1) if found else None
