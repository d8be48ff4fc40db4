"""Linux process control: users and capabilities, parent death signals, resource limits, and ending descendants."""

import contextlib
import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from app.domain.texts import Text

MAX_TASKS = 100
"""Processes and threads of a call that has a user ID of its own."""
KILL, SETGID, SETUID = 5, 6, 7
"""Numbers of capabilities(7)."""
_CAPABILITY_VERSION = 0x20080522
_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_KILLING_SECONDS = 5
_MAX_FILE_BYTES = 16 * 1024 * 1024
_MAX_NEW_TASKS = 256
_REPORT_BYTES = 32 * 1024 * 1024
_NICENESS = 19
libc = ctypes.CDLL(None, use_errno=True)


def forbid_new_privileges() -> None:
    """Let no program that this process or a child executes gain privileges, neither by set-user-ID nor as root."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def set_dumpable(value: int) -> None:
    """Allow (1) or forbid (0) processes of the same user to trace this one and to read its memory and environment."""
    _prctl(_PR_SET_DUMPABLE, value)


def become(user: int, group: int, *, kept: Iterable[int]) -> None:
    """Take on a user and a group, leave all other groups, keep only these capabilities, and forbid to be traced."""
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    keep(kept)
    set_dumpable(0)


def keep(numbers: Iterable[int]) -> None:
    """Give up all capabilities but these."""
    mask = sum(1 << number for number in numbers)
    version_and_process = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)(mask, mask)  # effective, permitted, inheritable; the same of numbers from 32 on
    if libc.capset(version_and_process, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; exit now if `parent` has ended already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def become_subreaper() -> None:
    """Become the parent of every orphaned descendant, whatever session it is in."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def confine(memory_bytes: int, *, has_own_user: bool) -> None:
    """Limit this process and its children; `has_own_user`: nobody else on this machine runs under its user ID."""
    os.nice(_NICENESS)
    with contextlib.suppress(OSError):  # autogroups, sched(7): the kernel first divides processors among sessions
        Path("/proc/self/autogroup").write_text(str(_NICENESS), "utf-8")
    Path("/proc/self/oom_score_adj").write_text("1000", "utf-8")  # the kernel's first choice when memory runs out
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, _MAX_FILE_BYTES)
    # The kernel counts the tasks of a user on the whole machine; root has no such limit.
    _lower(resource.RLIMIT_NPROC, MAX_TASKS if has_own_user else _tasks() + _MAX_NEW_TASKS)
    # Private memory beyond what the modules have. RLIMIT_AS would count what libraries such as numpy only reserve.
    most = _private_bytes() + memory_bytes
    _lower(resource.RLIMIT_DATA, most, most + _REPORT_BYTES)


def lift_memory_limit() -> None:
    """Allow memory for the report that memory ran out."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def end_descendants(kill: Callable[[], None]) -> None:
    """Have `kill` end all descendants of this subreaper, and reap them; what hangs is left after 5 s."""
    deadline = time.monotonic() + _KILLING_SECONDS
    with contextlib.suppress(ChildProcessError):  # none is left
        while time.monotonic() < deadline:
            kill()
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            time.sleep(0.001)


def kill_children() -> None:
    """Kill the children of this process, which has one thread; theirs become its own if it is a subreaper."""
    process = os.getpid()
    for child in Path(f"/proc/{process}/task/{process}/children").read_text("utf-8").split():
        with contextlib.suppress(PermissionError):  # it runs as another user
            os.kill(int(child), signal.SIGKILL)


def how_it_ended(status: int) -> Text:
    """Describe an exit code of `os.waitstatus_to_exitcode`."""
    if status >= 0:
        return Text(f"进程退出，状态 {status}", f"its process ended with exit status {status}")
    name = next((number.name for number in signal.Signals if number == -status), f"signal {-status}")
    return Text(f"进程被 {name} 终止", f"its process was ended by {name}")


def _prctl(option: int, value: int) -> None:
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _private_bytes() -> int:
    lines = Path("/proc/self/status").read_text("utf-8", "replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmData:")) * 1024


def _tasks() -> int:
    return int(Path("/proc/loadavg").read_text("utf-8").split()[3].partition("/")[2])  # of the machine


def _lower(limit: int, soft: int, hard: int | None = None) -> None:
    most = resource.getrlimit(limit)[1]
    within = [value if most == resource.RLIM_INFINITY else min(value, most) for value in (soft, hard or soft)]
    resource.setrlimit(limit, (within[0], within[1]))
