"""Stored state in tests: the clients of successive starts, their store, and whether they start offline."""

from __future__ import annotations

import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kadun import Client, ServerUnreachable

from tests.support.client.fake_server import NOW, FakeServer, setting
from tests.support.client.offline import no_network

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALLOWED = setting(offline_until=NOW + 86_400)


def offline(client: Client, server: FakeServer) -> bool:
    """Whether this client starts without the server."""
    server.script = [no_network]
    try:
        return client.open().offline
    except ServerUnreachable:
        return False
    finally:
        server.script = []


def state_files(folder: Path) -> list[Path]:
    """All but the lock, which is empty."""
    return [path for path in folder.iterdir() if path.name != "lock" or path.stat().st_size]


def only_file(folder: Path) -> Path:
    (path,) = state_files(folder)
    return path


@contextmanager
def full_disk(most_bytes: int = 0) -> Iterator[None]:
    """No file can grow beyond this, as on a full disk: the system itself refuses to write (RLIMIT_FSIZE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
