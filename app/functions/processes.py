"""Linux process control: parent death signals, subreapers, resource limits, and ending all descendants."""

import contextlib
import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from app.domain.texts import Text

MAX_TASKS = 100
"""Processes and threads of a call that has a user ID of its own."""
_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_CHILD_SUBREAPER = 36
_KILLING_SECONDS = 5
_MAX_FILE_BYTES = 16 * 1024 * 1024
_MAX_NEW_TASKS = 256
_REPORT_BYTES = 32 * 1024 * 1024
_NICENESS = 19
libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; exit now if `parent` has ended already."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def become_subreaper() -> None:
    """Become the parent of every orphaned descendant, whatever session it is in."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def confine(memory_bytes: int, *, has_own_user: bool) -> None:
    """Limit the resources of this process and its children.

    Args:
        memory_bytes: How much private memory a process may take beyond what this one has now. RLIMIT_DATA counts
            that; RLIMIT_AS would count what libraries such as numpy only reserve.
        has_own_user: Whether no other process of this machine but its children runs under its user ID.
    """
    os.nice(_NICENESS)
    with contextlib.suppress(OSError):  # autogroups, sched(7): the kernel first divides processors among sessions
        Path("/proc/self/autogroup").write_text(str(_NICENESS), "utf-8")
    Path("/proc/self/oom_score_adj").write_text("1000", "utf-8")  # the kernel's first choice when memory runs out
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, _MAX_FILE_BYTES)
    # The kernel counts the tasks of a user on the whole machine; root has no such limit.
    _lower(resource.RLIMIT_NPROC, MAX_TASKS if has_own_user else _tasks() + _MAX_NEW_TASKS)
    most = private_bytes() + memory_bytes
    _lower(resource.RLIMIT_DATA, most, most + _REPORT_BYTES)


def lift_memory_limit() -> None:
    """Allow memory for the report that memory ran out."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def children(process: int) -> list[int]:
    """Return the children of a process, adopted ones included."""
    found = []
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found += [int(child) for child in file.read_text("utf-8").split()]
    return found


def descendants(process: int) -> Iterator[int]:
    """Yield the descendants of a process."""
    for child in children(process):
        yield child
        yield from descendants(child)


def memory_of(process: int) -> int:
    """Return the memory of a process in bytes, without files, and with its share of what it shares with others."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text("utf-8").splitlines()
    except PermissionError:  # it has made itself unreadable: all that it maps counts
        return _resident_bytes(process)
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) * 1024


def _resident_bytes(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text("utf-8").split()[1]) * resource.getpagesize()
    except OSError:  # it has ended
        return 0


def end_descendants(kill_all: Callable[[], None] | None = None) -> bool:
    """Kill and reap all descendants of this process, which must be a subreaper.

    Args:
        kill_all: Kills them all at once. By default the children are killed; theirs then become children of this
            process, to be killed in the next round.

    Returns:
        Whether they are gone. One that hangs in the kernel is not waited for longer than 5 s.
    """
    deadline = time.monotonic() + _KILLING_SECONDS
    while True:
        (kill_all or _kill_children)()
        if not _reap():
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)


def _kill_children() -> None:
    for child in children(os.getpid()):
        kill(child)


def _reap() -> bool:
    """Reap the children that have ended; tell whether there are others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def kill(process: int) -> None:
    """Kill a process that may have ended already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def how_it_ended(status: int) -> Text:
    """Describe an exit code of `os.waitstatus_to_exitcode`."""
    if status >= 0:
        return Text(f"进程退出，状态 {status}", f"its process ended with exit status {status}")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return Text(f"进程被 {name} 终止", f"its process was ended by {name}")


def private_bytes() -> int:
    """Return the memory of this process that RLIMIT_DATA counts."""
    lines = Path("/proc/self/status").read_text("utf-8", "replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmData:")) * 1024


def prctl(option: int, value: int) -> None:
    """Set an option of this process; see the manual page of prctl.

    Raises:
        OSError: it failed.
    """
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _tasks() -> int:
    """Return the number of threads of the machine; cheap, see proc_loadavg(5)."""
    return int(Path("/proc/loadavg").read_text("utf-8").split()[3].partition("/")[2])


def _lower(limit: int, soft: int, hard: int | None = None) -> None:
    """Lower a limit, for good."""
    most = resource.getrlimit(limit)[1]
    within = [value if most == resource.RLIM_INFINITY else min(value, most) for value in (soft, hard or soft)]
    resource.setrlimit(limit, (within[0], within[1]))
