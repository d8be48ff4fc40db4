"""Names that one process of the tests keeps from all others until it ends."""

import socket

_CLAIMS: list[socket.socket] = []


def claim(name: str) -> bool:
    """Take a name, of a port for example; return False where a process has it already."""
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind(f"\0kadun-tests-{name}")  # no file: it goes with the process
    except OSError:
        holder.close()
        return False
    _CLAIMS.append(holder)
    return True
