"""SIGINT, SIGTERM and SIGHUP as an exception that is never raised in the middle of a start."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class StopRequested(BaseException):
    """The trial is to stop. Not an Exception, so that no handler of errors catches it."""


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
        """Delay the exception until the block has ended: a program that is half started would not be stopped."""
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
