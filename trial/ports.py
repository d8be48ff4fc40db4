"""Ports of 127.0.0.1."""

import errno
import socket

LOOPBACK = "127.0.0.1"


def why_not(port: int) -> int:
    """Return the `errno` that keeps a service from listening on `port`, or 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            return error.errno or errno.EADDRINUSE
        return 0


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
