"""Linux process control: parent death signals, subreapers, resource limits, and ending all descendants."""

import contextlib
import ctypes
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from app.domain.texts import Text

_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_CHILD_SUBREAPER = 36
_KILLING_SECONDS = 5
_MAX_FILE_BYTES = 16 * 1024 * 1024
_MAX_NEW_TASKS = 256
_NICENESS = 10
_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; exit now if `parent` has ended already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def become_subreaper() -> None:
    """Become the parent of every orphaned descendant, whatever session it is in."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def confine(memory_bytes: int) -> None:
    """Limit the resources of this process and its children.

    Args:
        memory_bytes: How much private memory a process may take beyond what this one has now. RLIMIT_DATA counts
            that; RLIMIT_AS would count what libraries such as numpy only reserve.
    """
    os.nice(_NICENESS)
    with contextlib.suppress(OSError):  # autogroups, sched(7): the kernel first divides processors among sessions
        Path("/proc/self/autogroup").write_text(str(_NICENESS), "ascii")
    Path("/proc/self/oom_score_adj").write_text("1000", "ascii")  # the kernel's first choice when memory runs out
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, _MAX_FILE_BYTES))
    # Of this user's processes, in this container and outside; root has no such limit.
    _lower(resource.RLIMIT_NPROC, tasks() + _MAX_NEW_TASKS)
    _lower(resource.RLIMIT_DATA, private_bytes() + memory_bytes)


def lift_memory_limit() -> None:
    """Allow memory for the report that memory ran out."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def descendants(ancestor: int) -> Iterator[int]:
    """Yield the descendants of a process, most of them while still reading /proc, to be killed at once."""
    family = {ancestor}
    others: dict[int, list[int]] = {}
    for process in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit()):  # noqa: PTH208
        parent = _parent_of(process)
        if parent in family:
            family.add(process)
            yield process
        else:
            others.setdefault(parent, []).append(process)
    # Process IDs wrap around: then a child's may be lower than its parent's.
    left = list(family)
    while left:
        below = others.pop(left.pop(), [])
        yield from below
        left += below


def children() -> list[int]:
    """Return this process's children, adopted ones included; none where the kernel does not list them."""
    try:
        return [int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return []


def memory_of(process: int) -> int:
    """Return the memory of a process in bytes, without files, and with its share of what it shares with others."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text("ascii").splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) * 1024


def tasks() -> int:
    """Return the number of threads of the machine; cheap, see proc_loadavg(5)."""
    return int(Path("/proc/loadavg").read_text("ascii").split()[3].partition("/")[2])


def end_descendants() -> bool:
    """Kill and reap all descendants of this process, which must be a subreaper.

    Returns:
        Whether they are gone. One that hangs in the kernel is not waited for longer than 5 s.
    """
    deadline = time.monotonic() + _KILLING_SECONDS
    while _reap():
        if time.monotonic() > deadline:
            return False
        # One that was missed or forked meanwhile becomes our child when its parent is dead: the next round ends it.
        for process in descendants(os.getpid()):
            kill(process)
        time.sleep(0.002)
    return True


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


def _parent_of(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:  # it has ended
        return 0
    return int(status.rpartition(b")")[2].split()[1])  # the program's name may contain brackets


def private_bytes() -> int:
    """Return the memory of this process that RLIMIT_DATA counts."""
    lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmData:")) * 1024


def _lower(limit: int, value: int) -> None:
    soft, hard = resource.getrlimit(limit)
    if soft == resource.RLIM_INFINITY or value < soft:
        resource.setrlimit(limit, (value, hard))


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
