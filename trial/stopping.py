"""Ctrl-C and its kin: a wish to stop that arrives as an exception, and never in the middle of a start."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class StopRequested(BaseException):
    """Somebody wants the trial service to stop. No error, so that nothing takes it for one."""


class Stopping:
    """Turns the first SIGINT, SIGTERM or SIGHUP into `StopRequested`; later ones change nothing."""

    def __init__(self) -> None:
        self._requested = False
        self._deferring = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup means it
                signal.signal(number, self._request)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Holds the wish back until the block has ended: a program half started would be lost sight of."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._requested:
            raise StopRequested

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        if self._requested:
            return
        self._requested = True
        if not self._deferring:
            raise StopRequested
