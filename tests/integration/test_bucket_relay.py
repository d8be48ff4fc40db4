"""The relay between the app and the bucket: one host, and nothing else."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.bucket_relay import Relay, relay_from
from app.environment import SettingsError

pytestmark = pytest.mark.nightly
NEEDED = {"KADUN_FILES_BUCKET": "my-files", "KADUN_FILES_BUCKET_ENDPOINT": "https://oss.example.com"}


@contextmanager
def echo() -> Iterator[int]:
    """A server that sends back what it receives."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        near, _ = listener.accept()
        with near:
            while piece := near.recv(65_536):
                near.sendall(piece)

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    thread.join()
    listener.close()


async def asked(relay: Relay, request: bytes, then: bytes = b"") -> bytes:
    """What a client receives that sends a request, and more after the answer's head."""
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    writer.write(request)
    answer = b""
    if then:
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.write(then)
        answer += await reader.readexactly(len(then))
    writer.write_eof()
    answer += await reader.read()
    writer.close()
    server.close()
    return answer


def test_bytes_go_both_ways() -> None:
    content = bytes(range(256)) * 2000
    with echo() as port:
        request = f"CONNECT localhost:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        answer = asyncio.run(asked(Relay("localhost", port), request, content))
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n" + content


@pytest.mark.parametrize(
    "line",
    [
        "CONNECT localhost:2 HTTP/1.1", "CONNECT 127.0.0.1:1 HTTP/1.1", "CONNECT localhost.:1 HTTP/1.1",
        "GET http://localhost:1/ HTTP/1.1", "CONNECT localhost:1 HTTP/1.0", "CONNECT localhost:1x HTTP/1.1", "",
    ],
)  # fmt: skip
def test_another_host_is_refused(line: str) -> None:
    answer = asyncio.run(asked(Relay("localhost", 1), f"{line}\r\nHost: localhost:1\r\n\r\n".encode()))
    assert answer == b"HTTP/1.1 403 Forbidden\r\n\r\n"


def test_a_host_that_does_not_answer_is_a_bad_gateway() -> None:
    answer = asyncio.run(asked(Relay("localhost", 1), b"CONNECT localhost:1 HTTP/1.1\r\n\r\n"))
    assert answer == b"HTTP/1.1 502 Bad Gateway\r\n\r\n"


@pytest.mark.parametrize("request_", [b"", b"CONNECT", b"x" * 70_000])
def test_what_is_no_request_is_not_answered(request_: bytes) -> None:
    assert asyncio.run(asked(Relay("localhost", 1), request_)) == b""


@pytest.mark.parametrize(
    ("settings", "right"),
    [
        ({}, "KADUN_FILES_BUCKET is not set"),
        (NEEDED | {"KADUN_FILES_BUCKET_ENDPOINT": ""}, "KADUN_FILES_BUCKET_ENDPOINT is not set"),
        (NEEDED | {"KADUN_FILES_BUCKET_ENDPOINT": "http://oss.example.com"}, "https"),
        (NEEDED | {"KADUN_FILES_BUCKET": "x"}, "3 to 63"),
        (NEEDED | {"KADUN_FILES_BUCKET_STYLE": "x"}, "virtual or path"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, str], right: str) -> None:
    with pytest.raises(SettingsError, match=right):
        relay_from(settings)
    done = subprocess.run(
        [sys.executable, "-m", "app.bucket_relay"], env=settings, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert right in done.stderr
