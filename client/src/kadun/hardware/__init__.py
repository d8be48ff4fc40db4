"""One string that stays the same on one machine, and that no other machine has.

Several identifiers are mixed, since each alone fails somewhere: cloned systems share the installation's, cheap
boards report dummies, virtual machines have no serial numbers. What customers change or unplug is left out:
disks, network cards, memory, addresses, names. What a machine does not have is left out as well, and nothing is
read that only an administrator may read: the string must not depend on who runs the program.

| system  | always, where genuine                                                | only when the firmware has nothing |
|---------|----------------------------------------------------------------------|------------------------------------|
| Windows | MachineGuid; the firmware's system UUID, system serial, board serial | the system disk's serial           |
| macOS   | the platform's UUID and serial                                       |                                    |
| Linux   | machine-id; the board's serial from the device tree (Arm)            |                                    |
"""

from __future__ import annotations

import hashlib
import json
import queue
import sys
import threading
from typing import TYPE_CHECKING, Union

from kadun.errors import HardwareUnknown

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = 15.0
"""Longer than this nobody waits for the system's answers, which take milliseconds."""

_Outcome = Union["dict[str, str]", Exception]


def machine_string(program: str | None = None) -> str:
    """This machine's string: a digest, so that the identifiers themselves stay at home.

    Args:
        program: the name of the vendor's program. Each gets a string of its own, so that nobody can tell from two
            vendors' records that they have the same customer.

    Raises:
        HardwareUnknown: the machine has no identifier (slim containers have none), or one could not be read. Then
            there is no string rather than another one: leaving one out for once would look like a new machine.
    """
    outcome: queue.Queue[_Outcome] = queue.Queue(maxsize=1)

    def work() -> None:
        try:
            outcome.put(_identifiers())
        except Exception as failure:  # noqa: BLE001 - whatever it is, a customer must not see its traceback
            outcome.put(failure)

    # A thread of its own: py-machineid waits for the programs that it starts without a limit.
    threading.Thread(target=work, name="kadun-hardware", daemon=True).start()
    try:
        found = outcome.get(timeout=SECONDS)
    except queue.Empty:
        raise HardwareUnknown(f"the system's identifiers did not come within {SECONDS:g} seconds") from None
    if isinstance(found, Exception):
        raise HardwareUnknown(f"an identifier could not be read: {type(found).__name__}: {found}") from None
    return digest(found, program)


def digest(identifiers: Mapping[str, str], program: str | None = None) -> str:
    """Mix genuine identifiers, by name, into one string.

    Raises:
        HardwareUnknown: there are none.
    """
    if not identifiers:
        raise HardwareUnknown("this machine has no identifier; pass hardware=… of your own")
    mixed = json.dumps({"program": program or "", "identifiers": dict(identifiers)}, sort_keys=True)
    return f"kadun2:{hashlib.sha256(mixed.encode('ascii')).hexdigest()}"


def _identifiers() -> dict[str, str]:
    """What this machine has, genuine ones only. Each system's module is imported on that system alone."""
    if sys.platform == "win32":
        from kadun.hardware import windows as system  # noqa: PLC0415
    elif sys.platform == "darwin":
        from kadun.hardware import macos as system  # noqa: PLC0415
    else:
        from kadun.hardware import linux as system  # noqa: PLC0415
    return system.identifiers()
