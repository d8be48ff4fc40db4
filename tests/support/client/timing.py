"""Waiting in the SDK's tests without real timeouts: for events, or until a server has stalled."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

SOON_SECONDS = 60.0  # the limit for an awaited event, far above what a loaded machine needs
LONG_SECONDS = 120.0  # a client's timeout that no test reaches, unless it passes early: see `StalledQueue`
STALLED = threading.Event()  # set by a server once it sends nothing more


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def heartbeat_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "kadun-heartbeat"]


class StalledQueue(queue.Queue[Any]):
    """Where a transport waits for its thread. Put in place of `queue.Queue`, the timeout passes at `STALLED`."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        STALLED.clear()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002 - the original's
        deadline = time.monotonic() + (timeout or 0)
        while time.monotonic() < deadline:
            try:
                return super().get(block, 0.005)
            except queue.Empty:
                if STALLED.is_set():
                    raise
        raise queue.Empty
