"""gunicorn's settings for the functions service; the names below are gunicorn's own."""

import sys
from typing import Any

from app import forks, logs
from app.environment import SettingsError
from app.functions import processes
from app.functions.settings import FunctionSettings

_OTHER_THREADS = 8  # for what is no call, and for telling callers at once that all places are taken

try:
    _settings = FunctionSettings.from_env()
except SettingsError as error:
    sys.exit(f"kadun: {error}")
try:
    _settings.socket.parent.stat()
except OSError as error:
    sys.exit(f"kadun: KADUN_FUNCTIONS_SOCKET: {_settings.socket.parent}: {error.strerror}")

chdir = str(_settings.socket.parent)  # an address holds 107 bytes, a path may have more
bind = f"unix:{_settings.socket.name}"
workers = 1  # it holds the modules; calls are processes of their own
threads = _settings.concurrency + _OTHER_THREADS
worker_class = "gthread"
umask = 0o007  # the socket is for the app's group, not for everybody
timeout = 30
graceful_timeout = _settings.seconds + 5  # calls under way are finished
keepalive = 0  # the app asks once a connection
control_socket_disable = True  # it wants a writable home and nobody here asks it anything
worker_tmp_dir = "/dev/shm"  # noqa: S108  # heartbeats in memory, not on a busy disk
accesslog = None
logconfig_dict = logs.configuration(_settings.log_level)


def on_starting(_server: Any) -> None:  # noqa: ANN401  # gunicorn is untyped
    """Let no worker miss that it is to end."""
    forks.end_when_told()


def post_fork(server: Any, _worker: Any) -> None:  # noqa: ANN401
    """Have the worker end with its master, whatever ends that: the processes of the functions end with the worker."""
    processes.die_with(server.pid)


def worker_exit(_server: Any, _worker: Any) -> None:  # noqa: ANN401
    """Leave no process behind."""
    from app.functions.wsgi import library  # noqa: PLC0415  # it is the worker's alone

    library.close()
