"""The functions service: `python -m app.functions`."""

import os
import sys
from functools import partial
from typing import NoReturn

from app.functions import api, launcher, processes
from app.functions.settings import FunctionSettings
from app.runtime.environment import SettingsError


def main() -> NoReturn:
    """Check the settings, take user IDs for calls where they are set, and run the service."""
    try:
        settings = FunctionSettings.from_env()
    except SettingsError as error:
        sys.exit(f"kadun: {error}")
    if not settings.socket.parent.is_dir():
        sys.exit(f"kadun: KADUN_FUNCTIONS_SOCKET: there is no folder {settings.socket.parent}")
    if settings.first_uid is not None and os.geteuid() != 0:
        sys.exit("kadun: KADUN_FUNCTION_FIRST_UID is set: only root can give functions user IDs of their own")
    serve = partial(api.serve, settings)
    if settings.first_uid is None:
        why = "KADUN_FUNCTION_FIRST_UID is not set, which takes root"
        sys.stderr.write(f"kadun: functions are not isolated from one another: {why}\n")
        launcher.run(lambda: None, serve, None)
    processes.forbid_new_privileges()
    processes.keep((processes.SETUID, processes.SETGID, processes.KILL))
    processes.set_dumpable(0)
    user, group = settings.user or (os.getuid(), os.getgid())
    launcher.run(partial(processes.become, user, group, kept=()), serve, (user, group, settings.first_uid))


if __name__ == "__main__":
    main()
