"""Messages between the service's processes: four bytes of length, then so many bytes."""

import socket

HEADER_BYTES = 4


def encode(content: bytes) -> bytes:
    """Return a message as it travels."""
    return len(content).to_bytes(HEADER_BYTES, "big") + content


def decode_length(header: bytes) -> int:
    """Return how many bytes follow a header."""
    return int.from_bytes(header, "big")


def receive(connection: socket.socket, max_bytes: int) -> bytes:
    """Return the next message.

    Raises:
        EOFError: the other side has gone, or sends more than `max_bytes`.
        OSError: the other side has gone, or nothing comes in time.
    """
    size = decode_length(_exactly(connection, HEADER_BYTES))
    if size > max_bytes:
        raise EOFError(f"a message of {size} bytes")
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        chunk = connection.recv(size - len(content))
        if not chunk:
            raise EOFError("the other side has gone")
        content += chunk
    return bytes(content)
