"""A worker that was forked a moment ago ends when it is told to."""

import os
import signal

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def end_when_told() -> None:
    """Have every process that this one forks from now on die of a signal to end until it has a handler of its own.

    gunicorn's workers inherit its handlers, which note signals for its own loop: one that comes before a worker has set
    its own is lost, and gunicorn waits for that worker for all of `graceful_timeout`, half a minute at every restart
    that hits the moment. The signals are held back over the fork, since a process may get one before its first line.
    """
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_die_by_default)


def _hold() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def _die_by_default() -> None:
    for ending in _ENDING:
        signal.signal(ending, signal.SIG_DFL)
    _release()
