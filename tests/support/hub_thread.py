"""A hub as a worker of the service has one, in a thread of the test process."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Self, TypeVar

import gevent
from gevent.event import Event

from app import hub

Result = TypeVar("Result")
_GLOBALS = ("_gevent", "_thread", "_hub", "_pool")


class HubThread:
    """Runs `app.hub` with two native threads in a block; afterwards everything runs where it is called, as before."""

    def __init__(self) -> None:
        self._before = {name: getattr(hub, name) for name in _GLOBALS}
        self._is_started = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_started.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._end.set)
        self._thread.join(20)
        assert not self._thread.is_alive()
        for name, value in self._before.items():
            setattr(hub, name, value)

    def call(self, work: Callable[[], Result]) -> Result:
        """Run work on the hub, and return its result.

        Everything that was begun before has by then run until it waited for something.
        """
        return hub.on_hub(work)

    def begin(self, work: Callable[[], Result]) -> "Future[Result]":
        """Begin work in a greenlet of its own; when this returns, it has run until it waited for something."""
        (done,) = self.begin_all([work])
        return done

    def begin_all(self, works: list[Callable[[], Result]]) -> "list[Future[Result]]":
        """Begin work in greenlets that become ready at the same moment, as `begin`."""
        done: list[Future[Result]] = [Future() for _ in works]
        self.call(lambda: [gevent.spawn(_fulfil, *one) for one in zip(done, works, strict=True)])
        self.call(partial(gevent.sleep, 0))
        return done

    def spawn(self, work: Callable[[], object]) -> Any:
        """Begin work as `begin`, and return its greenlet."""
        greenlet = self.call(partial(gevent.spawn, work))
        self.call(partial(gevent.sleep, 0))
        return greenlet

    def _run(self) -> None:
        hub.start(2)
        self._end: Any = Event()
        self._is_started.set()
        while not self._end.wait(1):  # as a worker's heartbeat, it keeps the hub's loop alive
            pass
        hub._pool.kill()  # noqa: SLF001  # waits for the threads, whose connections are closed with them
        gevent.get_hub().destroy(destroy_loop=True)


def _fulfil(done: "Future[Result]", work: Callable[[], Result]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:  # noqa: BLE001  # raised where the result is awaited
        done.set_exception(error)
