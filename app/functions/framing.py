"""Messages on a stream: four bytes of length, then the content."""

import socket

HEADER_BYTES = 4
CHUNK_BYTES = 64 * 1024


def encode(content: bytes) -> bytes:
    """Return a message with its header."""
    return len(content).to_bytes(HEADER_BYTES, "big") + content


def decode_length(header: bytes) -> int:
    """Return the length of the content from its header."""
    return int.from_bytes(header, "big")


def receive(connection: socket.socket, max_bytes: int) -> bytes:
    """Return the next message.

    Raises:
        EOFError: the connection was closed, or the message is longer than `max_bytes`.
        OSError: the connection broke, or nothing came in time.
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
            raise EOFError("the connection was closed")
        content += chunk
    return bytes(content)
