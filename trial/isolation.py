"""User IDs for the calls of core functions, where the trial can give them any. Standard library only."""

import hashlib
import os
import pwd
import sysconfig
from pathlib import Path

from trial.accounts import Account, first_barred
from trial.environment import Trial
from trial.speech import step

FUNCTION_UIDS = 129
"""As many as `app.functions.places` needs."""
_FIRST_UIDS = range(400_000_000, 800_000_000, 200)  # far from accounts, and from the container's 20001 and more


def isolate(trial: Trial) -> int | None:
    """Return the first of the user IDs for calls of core functions, whose group may read their folder.

    None where calls cannot have any; the person is told why.
    """
    if os.geteuid() != 0:
        step(
            "核心功能之间未相互隔离：只有 root 能为每次调用分配用户。",
            "Core functions are not isolated from one another: that takes root.",
        )
        return None
    first = first_function_uid(trial.data_dir)
    # Calls import some of Python's modules only while they run.
    barred = first_barred(Path(sysconfig.get_path("stdlib")), Account(first, first))
    if barred is not None:
        step(
            f"核心功能之间未相互隔离：其他用户无法进入 Python 所在的 {barred}；"
            f"如需隔离，请执行 chmod o+x {barred} 后重新启动。",
            f"Core functions are not isolated from one another: other users cannot enter {barred}, where Python is; "
            f"to isolate them, chmod o+x {barred} and start again.",
        )
        return None
    os.chown(trial.functions, -1, first)
    trial.functions.chmod(0o2750)  # files that are put there get the group, too
    return first


def first_function_uid(folder: Path) -> int:
    """Return the first of the user IDs for calls of core functions, by the trial's folder; no account has one."""
    number = int.from_bytes(hashlib.sha256(os.fsencode(folder)).digest()[:8], "big")
    while any(map(_has_account, range(first := _FIRST_UIDS[number % len(_FIRST_UIDS)], first + FUNCTION_UIDS))):
        number += 1
    return first


def _has_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
