"""What Linux does for us: processes that end with their parent, limits, and the end of all that one has started."""

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
    """Have this process killed when its parent ends, or end it now if `parent` is its parent no more."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own, whatever session it is in."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def confine(memory_bytes: int) -> None:
    """Put this process, and what it starts, under limits.

    Args:
        memory_bytes: How much private memory it may take beyond what it has now. RLIMIT_DATA counts that; RLIMIT_AS
            would count what libraries such as numpy only reserve.
    """
    os.nice(_NICENESS)
    with contextlib.suppress(OSError):  # some kernels share processors among sessions first: autogroups, in sched(7)
        Path("/proc/self/autogroup").write_text(str(_NICENESS), "ascii")
    Path("/proc/self/oom_score_adj").write_text("1000", "ascii")  # first to go when memory runs out
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, _MAX_FILE_BYTES))
    # Of this user's processes, in this container and outside; root has no such limit.
    _lower(resource.RLIMIT_NPROC, tasks() + _MAX_NEW_TASKS)
    _lower(resource.RLIMIT_DATA, private_bytes() + memory_bytes)


def lift_memory_limit() -> None:
    """Make room to say that memory ran out."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def descendants(ancestor: int) -> Iterator[int]:
    """Find the processes that descend from one: nearly all while it looks, so that they can be killed at once."""
    family = {ancestor}
    others: dict[int, list[int]] = {}
    for process in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit()):  # noqa: PTH208
        parent = _parent_of(process)
        if parent in family:
            family.add(process)
            yield process
        else:
            others.setdefault(parent, []).append(process)
    # The kernel's numbers begin again when they are used up: then children are below their parents.
    left = list(family)
    while left:
        below = others.pop(left.pop(), [])
        yield from below
        left += below


def children() -> list[int]:
    """Return this process's children, those that it has adopted too; none where the kernel does not list them."""
    try:
        return [int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return []


def memory_of(process: int) -> int:
    """Return how many bytes a process holds that are in no file, what it shares with others in proportion."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text("ascii").splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) * 1024


def tasks() -> int:
    """Return how many threads the whole machine has; cheap, see proc_loadavg(5)."""
    return int(Path("/proc/loadavg").read_text("ascii").split()[3].partition("/")[2])


def end_descendants() -> bool:
    """Kill all that descends from this process, which adopts orphans, and leave no zombie.

    Returns: whether they are gone; one that hangs in the kernel is not waited for longer than 5 s.
    """
    deadline = time.monotonic() + _KILLING_SECONDS
    while _reap():
        if time.monotonic() > deadline:
            return False
        # Whatever is missed or forked meanwhile is a child of ours as soon as its parent is dead: the next round's.
        for process in descendants(os.getpid()):
            kill(process)
        time.sleep(0.002)
    return True


def _reap() -> bool:
    """Bury the children that have ended; tell whether there are others."""
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
    """Say in words what `os.waitstatus_to_exitcode` returned."""
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
    return int(status.rpartition(b")")[2].split()[1])  # a program's name may hold anything, brackets too


def private_bytes() -> int:
    """Return what RLIMIT_DATA counts of this process."""
    lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmData:")) * 1024


def _lower(limit: int, value: int) -> None:
    soft, hard = resource.getrlimit(limit)
    if soft == resource.RLIM_INFINITY or value < soft:
        resource.setrlimit(limit, (value, hard))


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
