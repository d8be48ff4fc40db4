"""python -m trial: PostgreSQL, the service and a demonstration, then serving until Ctrl-C."""

import contextlib
import http.client
import os
import secrets
import signal
import socket
import sys
import time

import pyrage

from trial import demo
from trial.environment import CHECKOUT, LOOPBACK, Trial, with_trial, write_secret
from trial.postgres import EmbeddedPostgres, install_binaries
from trial.programs import Child, TrialError, interrupt_on_signals, run, say

_READY_SECONDS = 60
_POLL_SECONDS = 0.1
_PYTHON = (sys.executable, "-P", "-m")


def main(trial: Trial) -> int:
    """Run the trial service."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # where Chinese cannot be shown
    interrupt_on_signals()
    try:
        trial.hold()
        _require_port(trial.port)
        with contextlib.ExitStack() as stack:
            programs = _start(trial, stack)
            say(f"ready: {trial.url}")
            while True:
                _require_running(programs)
                time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        say("已停止。  Stopped.")
        return 0


def _require_port(port: int) -> None:
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError as error:
        raise TrialError(
            f"无法使用端口 {port}：请关闭占用它的程序，或用 KADUN_PORT 换一个。",
            f"Cannot listen on port {port} ({os.strerror(error.errno or 0)}): "
            "stop what listens there, or set KADUN_PORT to another.",
        ) from error


def _start(trial: Trial, stack: contextlib.ExitStack) -> tuple[Child, ...]:
    install_binaries(trial.binaries)
    say("正在启动 PostgreSQL 与服务 …  Starting PostgreSQL and the service …")
    database = EmbeddedPostgres(trial.binaries, trial.cluster, log=trial.logs / "postgresql.log")
    stack.callback(database.stop)
    database.start()
    _prepare(trial, database.url())
    environ = trial.service_environment(os.environ)
    gunicorn = (*_PYTHON, "gunicorn", "--config", "python:app.gunicorn_conf", "app.wsgi:app")
    service = Child(gunicorn, environ, trial.logs / "service.log", signal.SIGTERM, cwd=CHECKOUT)
    # SIGQUIT ends it at once: nobody who pressed Ctrl-C waits for a call that hangs.
    of_functions = trial.functions_environment(os.environ)
    functions = Child(
        (*_PYTHON, "app.functions"), of_functions, trial.logs / "functions.log", signal.SIGQUIT, cwd=CHECKOUT
    )
    trial.functions_socket.unlink(missing_ok=True)  # that of a killed trial
    for child in (service, functions):  # the functions end first: a call under way would hold up the service
        stack.callback(child.stop)
        child.start()
    programs = (database, service, functions)
    deadline = time.monotonic() + _READY_SECONDS
    # The socket is there before the functions service has loaded the vendor's modules.
    while not (trial.functions_socket.exists() and _is_ready(trial.port)):
        _require_running(programs)
        if time.monotonic() > deadline:
            raise service.failure("未能就绪", "does not get ready")
        time.sleep(_POLL_SECONDS)
    demo.show(trial, environ)
    say(
        f"数据目录  all state: {trial.data_dir}",
        f"核心功能  core functions: {trial.functions}",
        f"管理卡密  manage cards: {trial.command('--help')}",
        f"管理后台  the console: {trial.url}/admin",
        f"添加首位管理员  add its first operator: {trial.command('admin', 'add', 'boss')}",
        "按 Ctrl-C 停止。  Ctrl-C stops it.",
    )
    return programs


def _prepare(trial: Trial, database_url: str) -> None:
    write_secret(trial.database_url_file, database_url)
    if not trial.kernal_data_key_file.exists():
        write_secret(trial.kernal_data_key_file, f"{pyrage.x25519.Identity.generate()}\n")
    if not trial.sealing_key_file.exists():  # versions before it had none
        write_secret(trial.sealing_key_file, f"{secrets.token_hex(32)}\n")
    failure = ("数据库升级失败。", "Could not bring the database up to date.")
    run([*_PYTHON, "app", "migrate"], failure, env=trial.service_environment(os.environ))


def _require_running(programs: tuple[Child, ...]) -> None:
    for child in programs:
        if child.pid is None:
            raise child.failure("已退出", "has ended")


def _is_ready(port: int) -> bool:
    with contextlib.closing(http.client.HTTPConnection(LOOPBACK, port, timeout=5)) as connection:
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


if __name__ == "__main__":
    sys.exit(with_trial("kadun", main))
