"""Names that one process of the tests reserves until it ends; on Linux."""

import socket

_CLAIMS: list[socket.socket] = []


def claim(name: str) -> bool:
    """Reserve a name, of a port for example; return False if it is taken."""
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind(f"\0kadun-tests-{name}")  # no file: the kernel frees it with the process
    except OSError:
        holder.close()
        return False
    _CLAIMS.append(holder)
    return True
