"""Names, of ports for example, that a process of the tests reserves until it ends."""

import socket

_CLAIMS: list[socket.socket] = []


def claim(name: str) -> bool:
    """Reserve a name; return False if it is taken."""
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind(f"\0kadun-tests-{name}")  # Linux's abstract names: no file, and gone with the process
    except OSError:
        holder.close()
        return False
    _CLAIMS.append(holder)
    return True
