"""python -m trial: PostgreSQL, the service and a demonstration, then serving until Ctrl-C."""

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pyrage

from trial import binaries
from trial.demo import Demo
from trial.environment import Trial, write_secret
from trial.errors import TrialError
from trial.isolation import isolate
from trial.postgres import EmbeddedPostgres
from trial.preflight import claim
from trial.service import FunctionsService, Service, migrate
from trial.speech import say, step
from trial.stopping import Stopping, StopRequested

_WATCH_SECONDS = 0.5
_RESTART_SECONDS = 5
_LOG_BYTES = 10_000_000


def main() -> int:
    """Run the trial service; return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # where Chinese cannot be shown
    stopping = Stopping()
    ready = False
    try:
        trial = Trial.from_environ(os.environ, uid=os.geteuid())
        with contextlib.ExitStack() as stack:
            running = _start(trial, stack.enter_context(claim(trial)), stack, stopping)
            ready = True
            say(f"ready: {trial.url}")
            _watch(running, stopping)
    except TrialError as error:
        if error.detail:
            print(error.detail, file=sys.stderr)
        print(f"kadun: {error}", file=sys.stderr)
        return 1
    except StopRequested:
        step("已停止。", "Stopped.")
        return 0 if ready else 130
    return 0


class _Running(NamedTuple):
    postgres: EmbeddedPostgres
    service: Service
    functions: FunctionsService


def _start(trial: Trial, held: int, stack: contextlib.ExitStack, stopping: Stopping) -> _Running:
    """Start everything; `stack` stops it again, however this ends."""
    for log in trial.logs.glob("*.log"):
        _rotate(log)
    if not binaries.is_installed(trial.binaries):
        step("正在安装 PostgreSQL（仅首次）…", "Installing PostgreSQL (the first time only) …")
        binaries.install_binaries(trial.binaries)
    step("正在启动 PostgreSQL 与服务 …", "Starting PostgreSQL and the service …")
    postgres = EmbeddedPostgres(trial.binaries, trial.cluster, log=trial.logs / "postgresql.log", held=held)
    stack.callback(postgres.stop)
    with stopping.deferred():
        postgres.start()
    write_secret(trial.database_url_file, postgres.url())
    if not trial.kernal_data_key_file.exists():
        write_secret(trial.kernal_data_key_file, f"{pyrage.x25519.Identity.generate()}\n")
    trial.make_totp_key()
    environ = trial.service_environment(os.environ)
    migrate(environ)
    service = Service(trial, environ, held)
    stack.callback(service.stop)
    functions = FunctionsService(trial, trial.functions_environment(os.environ, isolate(trial)))
    stack.callback(functions.stop)  # before the service, which a call under way would hold up
    with stopping.deferred():
        service.start()
        functions.start()
    service.wait_ready()
    functions.wait_listening()
    Demo(trial, environ).show()
    say(
        f"数据目录  all state: {trial.data_dir}",
        f"核心功能  core functions: {trial.functions}",
        f"管理卡密  manage cards: {trial.command('--help')}",
        f"管理后台  the console: {trial.console_url}",
        f"添加首位管理员  add its first operator: {trial.command('admin', 'add', 'boss')}",
    )
    step("按 Ctrl-C 停止。", "Ctrl-C stops it.")
    return _Running(postgres, service, functions)


def _watch(running: _Running, stopping: Stopping) -> None:
    """Serve until told to stop; start PostgreSQL or the functions service again when it has died.

    Raises:
        TrialError: The service has ended.
    """
    while True:
        running.service.require_running()
        if running.postgres.pid is None:
            step("PostgreSQL 已退出，正在重启 …", "PostgreSQL has ended; starting it again …")
            try:
                with stopping.deferred():
                    running.postgres.start()
            except TrialError as error:
                print(f"kadun: {error}", file=sys.stderr)
                time.sleep(_RESTART_SECONDS)
        if running.functions.pid is None:
            log = running.functions.log
            step(
                f"核心功能服务已退出，正在重启，日志：{log}",
                f"The functions service has ended; starting it again; its log: {log}",
            )
            time.sleep(_RESTART_SECONDS)
            with stopping.deferred():
                running.functions.stop()  # what is left of it
                running.functions.start()
        time.sleep(_WATCH_SECONDS)


def _rotate(log: Path) -> None:
    """Rename a large log, so that a new one begins."""
    if log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


if __name__ == "__main__":
    sys.exit(main())
