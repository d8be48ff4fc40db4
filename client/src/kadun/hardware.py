"""One string that stays the same on one machine. A beginning, and an honest one.

It rests on a single identifier of the operating system's installation. That stays put across reboots, new
disks, network cards and memory, but changes when the system is installed anew, and machines cloned from one
image share it. A vendor who needs more hands a string of their own to `Client(hardware=…)`.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

from kadun.errors import HardwareUnknown

MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
IOREG = "/usr/sbin/ioreg"
_IDENTIFIER = re.compile(r"[0-9A-Fa-f-]{32,36}")


def machine_string() -> str:
    """This machine's string: a digest, so that the identifier itself stays at home.

    Raises:
        HardwareUnknown: the system offers no identifier (slim containers have none).
    """
    identifier = _identifier().strip()
    if not _IDENTIFIER.fullmatch(identifier) or not set(identifier) - {"0", "-"}:
        raise HardwareUnknown("the system has no machine identifier; pass hardware=… of your own")
    digest = hashlib.sha256(f"kadun hardware 1\n{sys.platform}\n{identifier.lower()}".encode("ascii"))
    return f"kadun1:{digest.hexdigest()}"


def _identifier() -> str:
    """The raw identifier, or an empty string."""
    try:
        if sys.platform == "win32":
            import winreg  # noqa: PLC0415 - there is none elsewhere

            path = r"SOFTWARE\Microsoft\Cryptography"
            flags = winreg.KEY_READ | winreg.KEY_WOW64_64KEY  # 32-bit programs see another branch otherwise
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path, 0, flags) as key:
                return str(winreg.QueryValueEx(key, "MachineGuid")[0])
        if sys.platform == "darwin":
            command = [IOREG, "-rd1", "-c", "IOPlatformExpertDevice"]
            shown = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
            found = re.search(r'"IOPlatformUUID" = "([^"]+)"', shown)
            return found.group(1) if found else ""
        for path in MACHINE_ID_FILES:
            if path.is_file() and path.stat().st_size:
                return path.read_text(encoding="ascii")
    except (OSError, ValueError, subprocess.TimeoutExpired):
        pass  # the caller says it: there is no identifier
    return ""
