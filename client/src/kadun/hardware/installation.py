"""The identifier of the installed system, from py-machineid."""

from __future__ import annotations

import re

_FORM = re.compile(r"[0-9A-Fa-f]{32}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def machine_id() -> str | None:
    """The system's identifier, 32 hexadecimal digits or a UUID; None when it has none.

    Where nothing else is left, py-machineid names the container that it runs in. Each start has another, so what
    has not the form of an installation's identifier counts as none.
    """
    import machineid  # noqa: PLC0415 - it brings subprocess and platform, which most programs' start can do without

    try:
        found = str(machineid.id())
    except machineid.MachineIdNotFound:
        return None
    return in_form(found)


def in_form(found: str) -> str | None:
    """What was found, if it can be an installation's identifier."""
    return found if _FORM.fullmatch(found) else None
