"""The gunicorn settings of the functions service."""

from typing import Any

from app import forks, logs
from app.functions import processes
from app.functions.settings import FunctionSettings

_OTHER_THREADS = 8  # for other requests, and to refuse calls at once when all places are taken

_settings = FunctionSettings.from_env()

chdir = str(_settings.socket.parent)  # a socket's address holds 107 bytes, its path may have more
bind = f"unix:{_settings.socket.name}"
workers = 1  # calls are processes of their own
threads = _settings.calls.places + _OTHER_THREADS
worker_class = "gthread"
umask = 0o007  # the socket is for the app's group only
timeout = 30
graceful_timeout = _settings.seconds + 5  # calls in progress finish
keepalive = 0  # the client sends one request per connection
control_socket_disable = True  # unused, and it would need a writable home
worker_tmp_dir = "/dev/shm"  # noqa: S108  # heartbeats in memory, not on a busy disk
accesslog = None
logconfig_dict = logs.configuration(_settings.log_level)


def on_starting(_server: Any) -> None:  # noqa: ANN401  # gunicorn is untyped
    """Let no worker miss a signal to end."""
    forks.end_on_signals()


def post_fork(server: Any, _worker: Any) -> None:  # noqa: ANN401
    """End the worker with its master, however that ends; the zygote and the calls end with the worker."""
    processes.die_with(server.pid)


def worker_exit(_server: Any, _worker: Any) -> None:  # noqa: ANN401
    """Leave no process behind."""
    from app.functions.wsgi import library  # noqa: PLC0415  # only a worker may import it

    library.close()
