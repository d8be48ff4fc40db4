"""Where a worker's code runs: greenlets on one hub for verifications, native threads for what blocks or computes.

A worker of gunicorn calls `start` after the fork. Without it (commands, tests) everything runs where it is called.
Nothing is monkey-patched: the worker's sockets, the connection for the hot statement and the calls to the functions
service wait on the hub, all other code is ordinary code in native threads (docs/decisions.md).
"""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

Result = TypeVar("Result")
_PATIENCE = 6
"""How many times as long as the hub was busy unhurried work waits."""

_gevent: Any = None
_thread = 0
_hub: Any = None
_pool: Any = None


def start(threads: int) -> None:
    """Make the calling thread's gevent hub the one of this process, with so many native threads beside it."""
    global _gevent, _thread, _hub, _pool  # noqa: PLW0603  # a process has one hub
    import gevent.event  # noqa: PLC0415  # commands do without it
    import gevent.lock  # noqa: PLC0415
    import gevent.socket  # noqa: PLC0415
    import gevent.threadpool  # noqa: PLC0415

    _gevent = gevent
    _hub = gevent.get_hub()
    _pool = gevent.threadpool.ThreadPool(threads, hub=_hub)
    _thread = threading.get_ident()


def is_here() -> bool:
    """Whether the caller runs on the hub, where nothing may block or compute for long."""
    return threading.get_ident() == _thread


def in_thread(work: Callable[[], Result]) -> Result:
    """Run `work` in a native thread, while other greenlets go on; wait for one where all are taken."""
    if not is_here():
        return work()
    done: Future[Result] = _pool.spawn(_fulfil, Future(), work).get()
    return done.result()


@contextmanager
def unhurried() -> Iterator[None]:
    """Wait after the block, the longer the busier other greenlets kept the hub meanwhile.

    It is for long work in native threads, piece by piece: Python runs one thread at a time, so that a worker whose hub
    is never idle gives half of its time to such a thread.
    """
    busy = time.thread_time()
    yield
    if is_here():
        _gevent.sleep(_PATIENCE * (time.thread_time() - busy))


def on_hub(work: Callable[[], Result]) -> Result:
    """Run `work` in a greenlet on the hub: what a native thread does with a socket that belongs there."""
    if _hub is None or is_here():
        return work()
    done: Future[Result] = Future()
    _hub.loop.run_callback_threadsafe(partial(_gevent.spawn_raw, _fulfil, done, work))
    return done.result()


def _fulfil(done: "Future[Result]", work: Callable[[], Result]) -> "Future[Result]":
    try:
        done.set_result(work())
    except BaseException as error:  # noqa: BLE001  # raised where the result is awaited; gevent would print it
        done.set_exception(error)
    return done


def new_socket(family: socket.AddressFamily) -> socket.socket:
    """Return a socket whose waiting lets other greenlets run, where the caller is one."""
    if not is_here():
        return socket.socket(family)
    made: socket.socket = _gevent.socket.socket(family)
    return made


def spawn(work: Callable[[], None]) -> None:
    """Begin `work` in a greenlet of its own, as soon as those that are ready now have run."""
    _gevent.spawn_raw(work)


class Places:
    """Gives places to so many greenlets at once; the others wait on the hub, in the order in which they came.

    Args:
        number: How many.
        seconds: How long one waits at most.
        waiting: How many wait at most: who comes then gets no place, at once.
    """

    def __init__(self, number: int, seconds: float, waiting: int = 100) -> None:
        self._number = number
        self._seconds = seconds
        self._waiting = waiting
        self._semaphore: Any = None

    @contextmanager
    def taken(self) -> Iterator[bool]:
        """Hold a place, and tell whether it is one: who gets none must do without. Off the hub there is no limit."""
        if not is_here():
            yield True
            return
        if self._semaphore is None:  # after the fork
            self._semaphore = _gevent.lock.Semaphore(self._number)
        is_taken = self._acquire()
        try:
            yield is_taken
        finally:
            if is_taken:
                self._semaphore.release()

    def _acquire(self) -> bool:
        if self._semaphore.acquire(blocking=False):
            return True
        if not self._waiting:
            return False
        self._waiting -= 1
        try:
            return bool(self._semaphore.acquire(timeout=self._seconds))
        finally:
            self._waiting += 1


class Turns:
    """Gives a place to one greenlet at once for each key; the others of that key wait on the hub, as for `Places`.

    Args:
        seconds: How long one waits at most.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._places: dict[str, Places] = {}
        self._here: Counter[str] = Counter()

    @contextmanager
    def taken(self, key: str) -> Iterator[bool]:
        """Hold the key's place, and tell whether it is one. Off the hub there is no limit."""
        if not is_here():
            yield True
            return
        places = self._places.setdefault(key, Places(1, self._seconds))
        self._here[key] += 1
        try:
            with places.taken() as is_taken:
                yield is_taken
        finally:
            self._here[key] -= 1
            if not self._here[key]:
                del self._here[key], self._places[key]


def event() -> Any:  # noqa: ANN401  # gevent is untyped
    """Return a `gevent.event.Event`."""
    return _gevent.event.Event()
