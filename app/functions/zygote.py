"""Two processes for one generation of the vendor's modules: `python -m app.functions.zygote CONTROL LIFELINE CRASH`.

The zygote imports the modules, reports on each to the service, and then forks a supervisor for every call that the
service sends: a module is imported once, and is there in each call at no cost. The zygote's parent, the reaper, ends
the zygote and all its descendants when the service closes the lifeline or ends.
"""

import faulthandler
import gc
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import msgspec

from app.domain.texts import Text
from app.functions import framing, modules, processes, scratch
from app.functions.decorator import CoreFunction, registered
from app.functions.messages import BrokenModule, FunctionInfo
from app.functions.supervisor import Limits, supervise

FOLDER = "(folder)"
"""Stands for the folder itself in place of a module's name."""
MAX_REPORT_BYTES = 8 * 1024 * 1024
MAX_LOAD_REQUEST_BYTES = 1024 * 1024
STDERR = 2
SIGNALLED = 128
"""The reaper exits with this plus the number of the signal that ended the zygote, as shells do."""
_POLL_MILLISECONDS = 250


class LoadRequest(msgspec.Struct, frozen=True):
    """What the service sends a zygote: the folder of the modules, those to skip, and the limits of a call."""

    folder: str
    skipped: list[str]
    limits: Limits


class Importing(msgspec.Struct, frozen=True, tag="importing"):
    """The import of a module begins."""

    module: str


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """The import of a module failed; `error` is its traceback."""

    module: str
    error: str


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """All modules are imported; `refused` are those that use a function's name twice."""

    functions: list[FunctionInfo]
    refused: list[BrokenModule]


Report = Importing | Broken | Ready


def main() -> NoReturn:
    """Be the reaper, and fork the zygote."""
    descriptors = [int(number) for number in sys.argv[1:]]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # noqa: FBT003  # for programs that modules start
    control, lifeline = (socket.socket(fileno=descriptor) for descriptor in descriptors[:2])
    processes.become_subreaper()
    reaper = os.getpid()
    zygote = os.fork()
    if zygote == 0:
        processes.die_with(reaper)
        lifeline.close()
        _be_zygote(control, descriptors[2])
    control.close()
    status = _wait(lifeline, zygote)
    processes.end_descendants()
    scratch.remove_all(zygote)
    os._exit(status if status >= 0 else SIGNALLED - status)


def _wait(lifeline: socket.socket, zygote: int) -> int:
    """Wait until the service closes the lifeline or the zygote ends; return the zygote's exit code."""
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    while not poll.poll(_POLL_MILLISECONDS):
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == zygote:
            return os.waitstatus_to_exitcode(status)
        for orphan in processes.children():  # of a call whose supervisor was killed
            if orphan != zygote:
                processes.kill(orphan)
    return 0


def _be_zygote(control: socket.socket, crash: int) -> NoReturn:
    try:
        request = msgspec.json.decode(framing.receive(control, MAX_LOAD_REQUEST_BYTES), type=LoadRequest)
        faulthandler.enable(crash)  # the service reads it when this process dies
        _import_all(Path(request.folder), request.skipped, control, crash)
        faulthandler.enable(STDERR)
        os.close(crash)
        _serve(control, request.limits)
    except (EOFError, ConnectionError):  # the service has ended
        pass
    except BaseException:  # noqa: BLE001  # the process must end here, whatever happens
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _import_all(folder: Path, skipped: list[str], control: socket.socket, crash: int) -> None:
    def report(message: Report) -> None:
        control.sendall(framing.encode(msgspec.json.encode(message)))

    try:
        os.chdir(folder)  # a module opens its data files by relative paths
        names = modules.names_in(folder)
    except OSError as error:
        report(Ready([], [BrokenModule(FOLDER, str(_unreadable(error)))]))
        return
    modules.make_importable(folder)
    functions: list[FunctionInfo] = []
    for name in names:
        if name not in skipped:
            report(Importing(name))
            faulthandler.dump_traceback_later(modules.IMPORT_SECONDS + 1, file=crash)
            failure = modules.error_of_importing(name, folder, functions)
            faulthandler.cancel_dump_traceback_later()
            if failure is not None:
                report(Broken(name, failure))
    report(_ready(functions))


def _ready(functions: list[FunctionInfo]) -> Ready:
    twice = dict(modules.named_twice(functions))
    refused = [
        BrokenModule(module, str(_named_twice(name, where)))
        for name, where in twice.items()
        for module in dict.fromkeys(where)
    ]
    return Ready([function for function in functions if function.name not in twice], refused)


def _unreadable(error: OSError) -> Text:
    return Text(f"无法读取功能目录：{error}", f"the functions folder cannot be read: {error}")


def _named_twice(name: str, where: list[str]) -> Text:
    return Text(
        f"多个功能使用了名称 {name!r}（{'、'.join(where)}）：均不提供",
        f"several functions have the name {name!r}, in {' and '.join(where)}: none is served",
    )


def _serve(control: socket.socket, limits: Limits) -> None:
    """Fork a supervisor for every socket that comes."""
    # Undo what modules may have set. Supervisors wait for their children; the kernel reaps supervisors.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    functions = {function.name: function for function in registered}
    gc.collect()
    gc.freeze()  # memory that the collector does not write to stays shared with the calls
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            raise EOFError
        with socket.socket(fileno=descriptors[0]) as service:
            try:
                supervisor = os.fork()
            except OSError:  # no more processes: the caller sees its socket closed
                traceback.print_exc()
                continue
            if supervisor == 0:
                control.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _be_supervisor(service, functions, limits)


def _be_supervisor(service: socket.socket, functions: dict[str, CoreFunction], limits: Limits) -> NoReturn:
    try:
        supervise(service, functions, limits)
    except (EOFError, ConnectionError):  # the service no longer waits
        pass
    except BaseException:  # noqa: BLE001  # the process must end here, whatever happens
        traceback.print_exc()
    while not processes.end_descendants():
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
