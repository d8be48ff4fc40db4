"""Functions that attack the service and other calls; each returns what it reached. Tests copy this module."""

import ctypes
import encodings.idna  # for socket.create_connection, where calls cannot read Python's folder
import errno
import glob
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time

from app.functions import core_function
from app.functions.decorator import registered

libc = ctypes.CDLL(None, use_errno=True)
SECRET = "a customer's secret"
LEFT = "left by a call"
SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")


def others():
    """The processes of other users, this call's supervisor among them."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/status") as file:
                    users = next(line for line in file if line.startswith("Uid:")).split()[1:]
            except OSError:
                continue
            if users != [str(os.getuid())] * 4:
                found.append(int(entry))
    assert os.getppid() in found
    return found


def reached(targets, attempt):
    """The targets for which an attempt raises no OSError."""
    found = []
    for target in targets:
        try:
            attempt(target)
        except OSError:
            continue
        found.append(str(target))
    return found


def read(path):
    with open(path, "rb") as file:
        if not file.read(1):  # as of a thread of the kernel, which has no memory of its own
            raise OSError(errno.ENODATA, "nothing")


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


@core_function("victim")
def victim(arguments, caller):
    secret = arguments["secret"]
    with open(os.path.join(tempfile.mkdtemp(), "secret"), "w") as file:
        file.write(secret)
    if arguments["has_child"] and os.fork() == 0:
        os.setsid()
        time.sleep(1000)
    with socket.create_connection(("127.0.0.1", arguments["port"])) as connection:
        connection.sendall(tempfile.gettempdir().encode())
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    with open(file.name) as file:
        return file.read()


def reads_memory_by_a_call(process):
    buffer = ctypes.create_string_buffer(16)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 16)
    remote = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 16)  # as the zygote's, of which all are forks
    checked(libc.process_vm_readv(process, local, 1, remote, 1, 0))


def takes_descriptors(process):
    handle = os.pidfd_open(process)
    try:
        for descriptor in range(20):
            if libc.syscall(438, handle, descriptor, 0) >= 0:  # pidfd_getfd(2)
                return
    finally:
        os.close(handle)
    raise OSError(errno.EPERM, "refused")


IOPRIO_SET = 251 if os.uname().machine == "x86_64" else 30
SLOWER = [
    lambda process: os.setpriority(os.PRIO_PROCESS, process, 19),
    lambda process: os.setpriority(os.PRIO_PGRP, os.getpgid(process) or process, 19),
    lambda process: os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0)),
    lambda process: os.sched_setaffinity(process, {min(os.sched_getaffinity(0))}),
    lambda process: checked(libc.syscall(IOPRIO_SET, 1, process, 3 << 13)),  # the disk
    lambda process: resource.prlimit(process, resource.RLIMIT_NOFILE, (1, 1)),
    lambda process: write(f"/proc/{process}/autogroup", "19"),  # the session
    lambda process: write(f"/proc/{process}/oom_score_adj", "1000"),
]
AT_OTHERS = {
    "reads memory": [lambda process: read(f"/proc/{process}/mem")],
    "reads memory by a system call": [reads_memory_by_a_call],
    "reads environments": [lambda process: read(f"/proc/{process}/environ")],
    "reads maps and open files": [
        lambda process: read(f"/proc/{process}/maps"),
        lambda process: os.listdir(f"/proc/{process}/fd"),
    ],
    "traces": [lambda process: checked(libc.ptrace(16, process, 0, 0))],  # PTRACE_ATTACH
    "takes descriptors": [takes_descriptors],
    "signals": [lambda process: os.kill(process, 0)],
    "slows others": SLOWER,
}


def attacks_others(attempts):
    return lambda arguments, caller: [
        f"{number}: {process}" for number, attempt in enumerate(attempts) for process in reached(others(), attempt)
    ]


for name, attempts in AT_OTHERS.items():
    core_function(name)(attacks_others(attempts))


@core_function("kills its supervisor")
def kills_its_supervisor(arguments, caller):
    return reached([os.getppid()], lambda process: os.kill(process, signal.SIGKILL))


@core_function("kills all")
def kills_all(arguments, caller):
    try:
        os.kill(-1, signal.SIGKILL)  # all of this user but this process
    except OSError:
        pass
    return reached([os.getppid()], lambda process: os.kill(process, signal.SIGSTOP))


@core_function("slows its supervisor at its end")
def slows_its_supervisor_at_its_end(arguments, caller):
    supervisor = os.getppid()
    for _ in range(20):
        if os.fork() == 0:
            while True:
                for slow in SLOWER:
                    try:
                        slow(supervisor)
                    except OSError:
                        pass
    time.sleep(0.2)
    return []


@core_function("replaces the socket")
def replaces_the_socket(arguments, caller):
    path = arguments["socket"]

    def bind():
        socket.socket(socket.AF_UNIX).bind(f"{os.path.dirname(path)}/other.sock"[:100])

    changes = (
        lambda: os.unlink(path),
        lambda: os.rename(path, path + ".old"),
        lambda: os.symlink("/dev/null", path + ".link"),
        lambda: os.chmod(path, 0o777),
        bind,
    )
    return reached(changes, lambda change: change())


@core_function("calls the service")
def calls_the_service(arguments, caller):
    def attempt(path):
        folder = os.open(os.path.dirname(path), os.O_PATH)
        socket.socket(socket.AF_UNIX).connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")

    return reached([arguments["socket"]], attempt)


@core_function("changes the functions")
def changes_the_functions(arguments, caller):
    folder = os.path.dirname(__file__)
    names = ["new.py", "well.py", "intruders.py", "../other", "../functions-packages/x.pth"]
    found = reached([f"{folder}/{name}" for name in names], lambda path: open(path, "a").close())
    return found + reached([f"{folder}/__pycache__"], os.mkdir)


@core_function("becomes another user")
def becomes_another_user(arguments, caller):
    users = [0, 1, 1000, 10001, os.getuid() - 1, os.getuid() + 1, os.getuid() + 2, os.getuid() + 3]
    return (
        reached(users, lambda user: os.setresuid(user, user, user))
        + reached([user for user in users if user != os.getgid()], lambda user: os.setresgid(user, user, user))
        + reached([[0], [101]], os.setgroups)
    )


@core_function("gains privileges")
def gains_privileges(arguments, caller):
    copy = os.path.join(tempfile.gettempdir(), "id")
    subprocess.run(["cp", "/usr/bin/id", copy], check=True)
    os.chmod(copy, 0o4755)
    try:
        own = subprocess.run([copy, "-u"], stdout=subprocess.PIPE, text=True).stdout.split()
    except PermissionError:  # a file system without programs
        own = []
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file if ":" in line)
    masks = ("CapInh", "CapPrm", "CapEff", "CapAmb")
    return (
        [user for user in own if user != str(os.getuid())]
        + [name for name in masks if int(status[name], 16)]
        + ([] if status["NoNewPrivs"].strip() == "1" else ["NoNewPrivs"])
        + ([] if status["Groups"].strip() == "" else ["Groups"])
    )


@core_function("raises its limits")
def raises_its_limits(arguments, caller):
    limits = ("RLIMIT_NPROC", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_DATA")

    def attempt(name):
        try:
            resource.setrlimit(getattr(resource, name), (2**40, 2**40))
        except ValueError as error:
            raise OSError(errno.EPERM, "refused") from error

    return (
        reached(limits, attempt)
        + reached([-20], lambda value: os.setpriority(os.PRIO_PROCESS, 0, value))
        + reached(["/proc/self/oom_score_adj"], lambda path: write(path, "-1000"))
    )


@core_function("forks without end")
def forks_without_end(arguments, caller):
    try:
        for _ in range(1000):
            if os.fork() == 0:
                os.setsid()
                time.sleep(1000)
    except BlockingIOError:
        return []
    return ["a thousand processes"]


@core_function("fills the disk")
def fills_the_disk(arguments, caller):
    # Not as much as the host has, on a trial; in the container this is all.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for number in range(40):
        try:
            with open(f"/tmp/{LEFT} {number}", "wb", buffering=0) as file:
                file.write(bytes(2 * 1024**2))
        except OSError:
            break
    return []


@core_function("leaves files")
def leaves_files(arguments, caller):
    for folder in SHARED:
        try:
            with open(f"{folder}/{LEFT}", "w") as file:
                file.write(SECRET)
            os.makedirs(f"{folder}/{LEFT} too/a")
            os.chmod(f"{folder}/{LEFT} too", 0o777)
        except OSError:
            pass
    key = 4_711_000 + os.getpid() % 1000
    libc.shmget(key, 4096, 0o1666)
    libc.semget(key, 1, 0o1666)
    libc.msgget(key, 0o1666)
    return []


@core_function("finds what others left")
def finds_what_others_left(arguments, caller):
    first = arguments["first_uid"]
    found = []
    for folder in SHARED:
        for path in glob.glob(f"{folder}/{LEFT}*"):
            try:
                owner = os.lstat(path).st_uid
            except FileNotFoundError:
                continue
            if first <= owner < first + 129:  # another service's calls may leave files beside these
                found.append(path)
    for kind in ("shm", "sem", "msg"):
        with open(f"/proc/sysvipc/{kind}") as file:
            names = file.readline().split()
            rows = [dict(zip(names, line.split())) for line in file]
        found += [kind for row in rows if first <= int(row["uid"]) < first + 129]
    return found


@core_function("reads scratch folders")
def reads_scratch_folders(arguments, caller):
    folders = [path for path in glob.glob("/tmp/kadun-call-*") if path != tempfile.gettempdir()]
    return (
        reached(folders, os.listdir) + reached(folders, os.rmdir) + reached(folders, lambda path: os.chmod(path, 0o777))
    )


@core_function("outlives its call")
def outlives_its_call(arguments, caller):
    subprocess.Popen(["/bin/sh", "-c", "trap '' HUP TERM INT; sleep 1000 & sleep 1001"], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                try:
                    if os.fork() == 0:
                        time.sleep(0.01)
                        os._exit(0)
                    os.wait()
                except OSError:
                    pass
        os._exit(0)
    time.sleep(0.1)
    return []


@core_function("reads files")
def reads_files(arguments, caller):
    return reached(arguments["paths"], lambda path: os.listdir(path) if os.path.isdir(path) else read(path))


NOTHING = [core.name for core in registered if core.function.__module__ == __name__ and core.name != "victim"]
"""Functions that return a list of what they reached, and must reach nothing."""
