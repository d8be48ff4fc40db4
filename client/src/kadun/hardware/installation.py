"""The identifier of the installed system, from py-machineid."""

from __future__ import annotations

import re

_FORM = re.compile(r"[0-9A-Fa-f]{32}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def machine_id() -> str | None:
    """Return the system's identifier, 32 hexadecimal digits or a UUID, or None.

    As a last resort py-machineid returns the name of the container, which changes with each start. So only the form of
    an installation's identifier is accepted.
    """
    import machineid  # noqa: PLC0415 - it imports subprocess and platform, which slow down the start

    try:
        found = str(machineid.id())
    except machineid.MachineIdNotFound:
        return None
    return in_form(found)


def in_form(found: str) -> str | None:
    """Return the value if it has the form of an installation's identifier, otherwise None."""
    return found if _FORM.fullmatch(found) else None
