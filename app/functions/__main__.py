"""The functions service: `python -m app.functions`."""

import os
import sys
from typing import NoReturn

from app.environment import SettingsError
from app.functions import launcher, places, privileges
from app.functions.settings import FunctionSettings
from app.functions.zygote import Identity

SHARED = "functions are not isolated from one another: KADUN_FUNCTION_FIRST_UID is not set, which takes root"


def main() -> NoReturn:
    """Check the settings, take user IDs for calls where they are set, and run the service."""
    try:
        settings = FunctionSettings.from_env()
        _check(settings)
        if settings.first_uid is None:
            sys.stderr.write(f"kadun: {SHARED}\n")
            launcher.run(lambda: None, None)
        _run_isolated(settings, settings.first_uid)
    except SettingsError as error:
        sys.exit(f"kadun: {error}")


def _check(settings: FunctionSettings) -> None:
    try:
        settings.socket.parent.stat()
    except OSError as error:
        raise SettingsError(f"KADUN_FUNCTIONS_SOCKET: {settings.socket.parent}: {error.strerror}") from error
    if settings.first_uid is not None and os.geteuid() != 0:
        raise SettingsError("KADUN_FUNCTION_FIRST_UID is set: only root can give functions user IDs of their own")


def _run_isolated(settings: FunctionSettings, first_uid: int) -> NoReturn:
    privileges.forbid_new()
    privileges.keep((privileges.SETUID, privileges.SETGID, privileges.KILL))
    privileges.set_dumpable(0)
    claimed = places.claim(first_uid)  # held as long as this process runs
    user, group = settings.user or (os.getuid(), os.getgid())

    def become() -> None:
        claimed.close()
        privileges.become(user, group, kept=())
        privileges.set_dumpable(0)

    launcher.run(become, Identity(user, group, first_uid))


if __name__ == "__main__":
    main()
