"""python -m trial: PostgreSQL, the service and a demonstration, then serving until Ctrl-C."""

import contextlib
import errno
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pyrage

from trial import binaries, demo
from trial.child import Child, interrupt_on_signals
from trial.environment import CHECKOUT, LOOPBACK, Trial, write_secret
from trial.messages import TrialError, fail, say, step, tail
from trial.postgres import EmbeddedPostgres

_READY_SECONDS = 60
_LEFTOVER_SECONDS = 3
_POLL_SECONDS = 0.1
_WATCH_SECONDS = 0.5
_PYTHON = (sys.executable, "-P", "-m")
Running = dict[tuple[str, str], Child | EmbeddedPostgres]
"""What runs, by its name in Chinese and English."""


def main() -> int:
    """Run the trial service; return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # where Chinese cannot be shown
    interrupt_on_signals()
    ready = False
    try:
        trial = Trial.from_environ(os.environ)
        if not trial.is_held():
            _require_port(trial.port)
        with trial.hold(), contextlib.ExitStack() as stack:
            running = _start(trial, stack)
            ready = True
            say(f"ready: {trial.url}")
            while True:
                _require_running(running)
                time.sleep(_WATCH_SECONDS)
    except TrialError as error:
        return fail("kadun", error)
    except KeyboardInterrupt:
        step("已停止。", "Stopped.")
        return 0 if ready else 130


def _require_port(port: int) -> None:
    """Make sure that the port is free, which a trial that was killed leaves in a moment."""
    deadline = time.monotonic() + _LEFTOVER_SECONDS
    while True:
        try:
            socket.create_server((LOOPBACK, port)).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise TrialError(
                    f"无法使用端口 {port}：请关闭占用它的程序，或用 KADUN_PORT 换一个。",
                    f"Cannot listen on port {port} ({os.strerror(error.errno or 0)}): "
                    "stop what listens there, or set KADUN_PORT to another.",
                ) from error
        else:
            return
        time.sleep(_POLL_SECONDS)


def _start(trial: Trial, stack: contextlib.ExitStack) -> Running:
    """Start everything; `stack` stops it again, however this ends."""
    if not binaries.is_installed(trial.binaries):
        step("正在安装 PostgreSQL（仅首次）…", "Installing PostgreSQL (the first time only) …")
        binaries.install_binaries(trial.binaries)
    step("正在启动 PostgreSQL 与服务 …", "Starting PostgreSQL and the service …")
    postgres = EmbeddedPostgres(trial.binaries, trial.cluster, log=trial.logs / "postgresql.log")
    stack.callback(postgres.stop)
    postgres.start()
    write_secret(trial.database_url_file, postgres.url())
    if not trial.kernal_data_key_file.exists():
        write_secret(trial.kernal_data_key_file, f"{pyrage.x25519.Identity.generate()}\n")
    trial.make_sealing_key()
    environ = trial.service_environment(os.environ)
    migrate(environ)
    gunicorn = (*_PYTHON, "gunicorn", "--config", "python:app.gunicorn_conf", "app.wsgi:app")
    service = Child(gunicorn, environ, trial.logs / "service.log", signal.SIGTERM, cwd=CHECKOUT)
    # SIGQUIT ends it at once: nobody who pressed Ctrl-C waits for a call that hangs.
    of_functions = trial.functions_environment(os.environ)
    log = trial.logs / "functions.log"
    functions = Child((*_PYTHON, "app.functions"), of_functions, log, signal.SIGQUIT, cwd=CHECKOUT)
    trial.functions_socket.unlink(missing_ok=True)  # that of a killed trial
    for child in (service, functions):  # the functions end first: a call under way would hold up the service
        stack.callback(child.stop)
        child.start()
    running: Running = {
        ("PostgreSQL ", "PostgreSQL"): postgres,
        ("服务", "The service"): service,
        ("核心功能服务", "The functions service"): functions,
    }
    deadline = time.monotonic() + _READY_SECONDS
    # The socket is there before the functions service has loaded the vendor's modules.
    while not (trial.functions_socket.exists() and _answers(f"{trial.url}/readyz")):
        _require_running(running)
        if time.monotonic() > deadline:
            raise service.failure("服务未能就绪", "The service does not get ready")
        time.sleep(_POLL_SECONDS)
    demo.show(trial, environ)
    say(
        f"数据目录  all state: {trial.data_dir}",
        f"核心功能  core functions: {trial.functions}",
        f"管理卡密  manage cards: {trial.command('--help')}",
        f"管理后台  the console: {trial.url}/admin",
        f"添加首位管理员  add its first operator: {trial.command('admin', 'add', 'boss')}",
    )
    step("按 Ctrl-C 停止。", "Ctrl-C stops it.")
    return running


def _require_running(running: Running) -> None:
    """Check that all programs run.

    Raises:
        TrialError: One has ended; the end of its log says why.
    """
    for (chinese, english), program in running.items():
        if program.pid is None:
            raise program.failure(f"{chinese}已退出", f"{english} has ended")


def _answers(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        direct.open(url, timeout=5).close()
    except (OSError, http.client.HTTPException):  # refused, or answered with an error such as 503
        return False
    return True


def migrate(environ: dict[str, str]) -> None:
    """Bring the database that `environ` names up to date.

    Raises:
        TrialError: The migration failed; the error shows the end of what it printed.
    """
    command = (*_PYTHON, "app", "migrate")
    done = subprocess.run(command, check=False, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise TrialError("数据库升级失败。", "Could not bring the database up to date.", detail=tail(done.stderr))


if __name__ == "__main__":
    sys.exit(main())
