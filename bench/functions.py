"""The functions service with functions that hang and one that is trivial."""

import os

from bench.gunicorn import Gunicorn
from bench.service import Host

FUNCTION_SECONDS = 3
PLACES = 64
"""As many calls at once as KADUN_FUNCTION_CONCURRENCY allows."""
HANGING = ["spin"] * 4 + ["sleep"] * 196
"""What the customers call: busy loops on twice as many cores as the machines of the figures have, and waiting."""
TRIVIAL = "trivial"
_FIRST_UID = 400_000_000  # far from accounts
_MODULE = """
import time

from app.functions import core_function


@core_function("spin")
def spin(arguments, caller):
    while True:
        pass


@core_function("sleep")
def sleep(arguments, caller):
    time.sleep(3600)


@core_function("trivial")
def trivial(arguments, caller):
    return {"result": 7.12}
"""


def functions_service(here: Host) -> Gunicorn:
    """Start the functions service with these functions, on the socket where the app finds it."""
    folder = here.folder / "functions"
    folder.mkdir()
    (folder / "bench_functions.py").write_text(_MODULE)
    socket = here.folder / "functions.sock"
    environ = {
        "KADUN_FUNCTIONS_DIR": str(folder),
        "KADUN_FUNCTIONS_SOCKET": str(socket),
        "KADUN_FUNCTION_SECONDS": str(FUNCTION_SECONDS),
        "KADUN_FUNCTION_CONCURRENCY": str(PLACES),
        "KADUN_FUNCTION_CALLS_PER_ADDRESS": str(PLACES),
    }
    if os.geteuid() == 0:
        environ["KADUN_FUNCTION_FIRST_UID"] = str(_FIRST_UID)
    log = here.folder / "functions.log"
    return Gunicorn("app.functions.wsgi:app", environ, log, socket=socket, command=("-m", "app.functions"))
