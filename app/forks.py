"""Signals to forked workers that have not yet set their own handlers."""

import os
import signal

_TERMINATING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def end_on_signals() -> None:
    """Let terminating signals end forked processes until these set handlers of their own.

    gunicorn's workers inherit its handlers, which queue signals for the master's loop. A signal that arrives before a
    worker has set its own handlers would be lost, and gunicorn would wait for the worker for all of
    `graceful_timeout`. The signals are blocked during the fork, because a process may get one before its first line.
    """
    os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_restore_defaults)


def _block() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINATING)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TERMINATING)


def _restore_defaults() -> None:
    for terminating in _TERMINATING:
        signal.signal(terminating, signal.SIG_DFL)
    _unblock()
