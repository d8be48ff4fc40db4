"""The process that imports one generation of the vendor's modules: `python -m app.functions.zygote …`.

It reports on each module to the service, and then forks a supervisor for every call that the service sends: a module is
imported once, and is there in each call at no cost. It can change user IDs where places have their own, and therefore
reads no arguments.
"""

import faulthandler
import gc
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import NamedTuple, NoReturn

import msgspec

from app.domain.texts import Text
from app.functions import framing, modules, privileges, processes
from app.functions.decorator import CoreFunction, registered
from app.functions.messages import BrokenModule, FunctionInfo
from app.functions.monitor import Limits
from app.functions.places import Place
from app.functions.supervisor import Channel, supervise

FOLDER = "(folder)"
"""Stands for the folder itself in place of a module's name."""
MAX_REPORT_BYTES = 8 * 1024 * 1024
MAX_LOAD_REQUEST_BYTES = 1024 * 1024
CALL_BYTES = 2
"""With a call's `Channel` come the number of its place, and whether the last call there has been cleared away."""
STDERR = 2


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


class Identity(NamedTuple):
    """Whom the zygote runs as, and the first user ID of the places for calls."""

    user: int
    group: int
    first_uid: int


def main() -> NoReturn:
    """Be the zygote. The launcher gives the numbers of itself and of two descriptors, and an `Identity` or nothing."""
    launcher, control, crash, *identity = map(int, sys.argv[1:])
    for descriptor in (control, crash):
        os.set_inheritable(descriptor, False)  # noqa: FBT003  # for programs that modules start
    first_uid = None
    if identity:
        user, group, first_uid = Identity(*identity)
        privileges.become(user, group, kept=(privileges.SETUID, privileges.SETGID))
        privileges.set_dumpable(0)
    processes.die_with(launcher)
    _be_zygote(socket.socket(fileno=control), crash, first_uid)


def _be_zygote(control: socket.socket, crash: int, first_uid: int | None) -> NoReturn:
    try:
        request = msgspec.json.decode(framing.receive(control, MAX_LOAD_REQUEST_BYTES), type=LoadRequest)
        faulthandler.enable(crash)  # the service reads it when this process dies
        _import_all(Path(request.folder), request.skipped, control, crash)
        faulthandler.enable(STDERR)
        os.close(crash)
        _serve(control, request.limits, first_uid)
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


def _serve(control: socket.socket, limits: Limits, first_uid: int | None) -> None:
    """Fork a supervisor for every call that comes."""
    # Undo what modules may have set. Supervisors wait for their children; the kernel reaps supervisors.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    functions = {function.name: function for function in registered}
    gc.collect()
    gc.freeze()  # memory that the collector does not write to stays shared with the calls
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, CALL_BYTES, len(Channel._fields))
        if not descriptors:
            raise EOFError
        place_number, is_clear = message
        place = None if first_uid is None else Place.numbered(first_uid, place_number)
        service, request = descriptors
        try:
            supervisor = os.fork()
        except OSError:  # no more processes: the caller sees its socket closed
            traceback.print_exc()
            supervisor = -1
        if supervisor == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            channel = Channel(socket.socket(fileno=service), request)
            _be_supervisor(channel, functions, limits, place, is_clear=bool(is_clear))
        for descriptor in descriptors:
            os.close(descriptor)


def _be_supervisor(
    channel: Channel, functions: dict[str, CoreFunction], limits: Limits, place: Place | None, *, is_clear: bool
) -> NoReturn:
    try:
        if place is not None:
            place.enter()
        supervise(channel, functions, limits, place, is_clear=is_clear)
    except ConnectionError:  # the service no longer waits
        pass
    except BaseException:  # noqa: BLE001  # the process must end here, whatever happens
        traceback.print_exc()
    os._exit(0)


if __name__ == "__main__":
    main()
