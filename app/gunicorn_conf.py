"""gunicorn's settings; the names below are gunicorn's own."""

# ruff: noqa: E402  # the order of imports matters
import os
import tempfile

# Before prometheus_client is imported, which reads it once.
_metrics_dir = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="kadun-metrics-")

# Also before the patch: nothing waits under this library's locks, and the system's are faster.
from prometheus_client import multiprocess

from app.runtime import greenlets

greenlets.patch()

import contextlib
import shutil
import sys
from typing import Any

from app.runtime import logs
from app.runtime.settings import Settings, SettingsError

try:
    _settings = Settings.from_env()
except SettingsError as error:
    shutil.rmtree(_metrics_dir)
    sys.exit(f"kadun: {error}")

bind = _settings.bind
workers = _settings.workers
worker_class = "app.worker.Worker"
worker_connections = 2000  # of each worker; what comes beyond waits in the backlog
preload_app = True  # one copy of the code in memory, and a failed start reports its error once
limit_request_line = 8190  # as nginx: what nginx passes on, the app answers
umask = 0o007  # the socket is for nginx's group only
timeout = 30
graceful_timeout = 30
keepalive = 1  # longer than nginx keeps idle connections, so that nginx never sends on a closed one
control_socket_disable = True  # it needs a writable home, and nothing uses it
worker_tmp_dir = "/dev/shm"  # noqa: S108  # heartbeats in memory instead of on a busy disk
logger_class = "app.worker.Log"
logconfig_dict = logs.configuration(_settings.log_level)


def on_starting(_server: Any) -> None:  # noqa: ANN401  # gunicorn is untyped
    """Let a start end draining."""
    from app.services.system import startup  # noqa: PLC0415

    with contextlib.suppress(OSError):  # a folder that cannot be written to is reported by what needs it
        startup.end_draining(_settings.keys_dir)


def post_worker_init(worker: Any) -> None:  # noqa: ANN401
    """Start the worker's loops, after the fork."""
    # gunicorn reads a dozen settings a request, each by three calls: as plain attributes they cost next to nothing.
    vars(worker.cfg).update({name: setting.get() for name, setting in worker.cfg.settings.items()})
    from app.runtime.clock import utc_now  # noqa: PLC0415
    from app.services.system import periodic  # noqa: PLC0415  # when the models know their database
    from app.services.webhooks import webhook_delivery  # noqa: PLC0415  # as above
    from app.storage.models import database  # noqa: PLC0415

    periodic.Loop(database, periodic.tasks(database, _settings, utc_now)).start()
    webhook_delivery.start(database, _settings, utc_now)


def child_exit(_server: Any, worker: Any) -> None:  # noqa: ANN401
    """Keep a dead worker's counters, and drop its gauges."""
    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(_server: Any) -> None:  # noqa: ANN401
    """Remove the folder of the metrics."""
    shutil.rmtree(_metrics_dir, ignore_errors=True)
