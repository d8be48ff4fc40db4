"""The process that imports one generation of the vendor's modules: `python -m app.functions.zygote …`.

It imports them once, and then forks a supervisor for every call that the service sends: a module is there in each call
at no cost. It can change user IDs where places have their own, and therefore reads no arguments of calls.
"""

import gc
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import msgspec

from app.functions import modules, processes
from app.functions.decorator import registered
from app.functions.messages import Limits, Start
from app.functions.places import Place
from app.functions.supervisor import Call, supervise

Identity = tuple[int, int, int]
"""User and group of a zygote, and the first user ID of the places for calls."""


def main() -> NoReturn:
    """Be the zygote. The launcher gives a `Start`, the numbers of itself and of a socket, and an `Identity` or none."""
    folder, limits = msgspec.json.decode(sys.argv[1], type=Start)
    launcher, control, *identity = map(int, sys.argv[2:])
    os.set_inheritable(control, False)  # noqa: FBT003  # for programs that modules start
    first_uid = None
    if identity:
        user, group, first_uid = identity
        processes.become(user, group, kept=(processes.SETUID, processes.SETGID))
    processes.die_with(launcher)
    try:
        service = socket.socket(fileno=control)
        service.sendall(msgspec.json.encode(modules.import_all(Path(folder))) + b"\n")
        _serve(service, limits, first_uid)
    except ConnectionError:  # the service has ended
        pass
    except BaseException:  # noqa: BLE001  # the process must end here, whatever happens
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _serve(service: socket.socket, limits: Limits, first_uid: int | None) -> None:
    """Fork a supervisor for every call that comes: the number of its place, its connection, and its request."""
    # Undo what modules may have set. Supervisors wait for their children; the kernel reaps supervisors.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    functions = {function.key: function for function in registered}
    gc.collect()
    gc.freeze()  # memory that the collector does not write to stays shared with the calls
    while True:
        places, descriptors, _, _ = socket.recv_fds(service, 1, 2)
        if not descriptors:  # the service has ended, or another zygote takes its calls
            return
        place = None if first_uid is None else Place.numbered(first_uid, places[0])
        connection, request = descriptors
        try:
            supervisor = os.fork()
        except OSError:  # no more processes: the caller sees its connection closed
            traceback.print_exc()
            supervisor = -1
        if supervisor == 0:
            service.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            supervise(Call(socket.socket(fileno=connection), request, functions, limits, place))
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    main()
