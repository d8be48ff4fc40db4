"""A string that identifies this machine: stable, and different from every other machine's.

It combines several identifiers (docs/client.md, "The machine's string"), because each alone fails somewhere: cloned
systems share the ID of the installation, cheap boards report placeholders, virtual machines have no serial numbers.
Not used is what customers change or unplug, and what only an administrator may read.
"""

from __future__ import annotations

import hashlib
import json
import queue
import sys
import threading
from collections.abc import Mapping

from kadun.errors import HardwareUnknown

SECONDS = 15.0  # the limit for reading the identifiers, which usually takes milliseconds


def machine_string(program: str | None = None) -> str:
    """Return this machine's string: a digest, so that the identifiers themselves are not sent.

    Args:
        program: the name of the vendor's program. Each program has a different string, so that two vendors cannot tell
            from their records that they have the same customer.

    Raises:
        HardwareUnknown: the machine has no identifier (as in slim containers), or one could not be read. Without it
            the string would look like another machine.
    """
    outcome: queue.Queue[dict[str, str] | Exception] = queue.Queue(maxsize=1)

    def work() -> None:
        try:
            if sys.platform == "win32":
                from kadun.hardware import windows as system  # noqa: PLC0415 - each on its own systems only
            else:
                from kadun.hardware import unix as system  # noqa: PLC0415
            outcome.put(system.identifiers())
        except Exception as failure:  # noqa: BLE001 - a customer must not see its traceback
            outcome.put(failure)

    # In a thread, because py-machineid starts programs without a time limit.
    threading.Thread(target=work, name="kadun-hardware", daemon=True).start()
    try:
        found = outcome.get(timeout=SECONDS)
    except queue.Empty:
        raise HardwareUnknown(f"the system's identifiers were not read within {SECONDS:g} seconds") from None
    if isinstance(found, Exception):
        raise HardwareUnknown(f"an identifier could not be read: {type(found).__name__}: {found}") from None
    return digest(found, program)


def digest(identifiers: Mapping[str, str], program: str | None = None) -> str:
    """Combine identifiers, by name, into one string."""
    if not identifiers:
        raise HardwareUnknown("this machine has no identifier; pass your own hardware=…")
    mixed = json.dumps({"program": program or "", "identifiers": dict(identifiers)}, sort_keys=True)
    return f"kadun2:{hashlib.sha256(mixed.encode('ascii')).hexdigest()}"
