"""A launcher of zygotes, for tests that load modules: `python -m tests.support.zygotes DESCRIPTOR`."""

import atexit
import socket
import subprocess
import sys
from functools import cache

from app.functions.launcher import start_zygotes
from tests.support.service import ROOT


@cache
def launcher() -> socket.socket:
    """Return the socket of a launcher that gives no user IDs; one serves all tests of this process."""
    requests, mine = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with requests:
        command = [sys.executable, "-m", "tests.support.zygotes", str(requests.fileno())]
        process = subprocess.Popen(command, cwd=ROOT, pass_fds=[requests.fileno()], start_new_session=True)
    atexit.register(process.wait)
    atexit.register(mine.close)
    mine.recv(1)  # it is ready: tests limit how long modules may take, not how long Python takes to start
    return mine


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as requests_end:
        requests_end.send(b"r")
        start_zygotes(requests_end, None)
