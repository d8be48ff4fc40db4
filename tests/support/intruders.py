"""Functions that attack the service and other calls; each returns what it reached. Tests copy this module."""

import ctypes
import encodings.idna  # for socket.create_connection, where calls cannot read Python's folder
import errno
import glob
import http.client
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time

from app.functions import core_function

libc = ctypes.CDLL(None, use_errno=True)
SECRET = "a customer's secret"
LEFT = "left by a call"
NOTHING = [
    *("reads memory", "reads memory by a system call", "reads environments", "reads maps and open files", "traces"),
    *("takes descriptors", "signals", "kills its supervisor", "kills all", "slows others"),
    *("slows its supervisor at its end", "replaces the socket"),
    *("calls the service", "changes the functions", "becomes another user", "gains privileges", "raises its limits"),
    *("forks without end", "fills the disk", "leaves files", "reads scratch folders", "outlives its call"),
    *("finds what others left", "reads files"),
]
"""Functions that return a list of what they reached, and must reach nothing."""


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


@core_function("reads memory")
def reads_memory(arguments, caller):
    return reached([f"/proc/{process}/mem" for process in others()], read)


@core_function("reads memory by a system call")
def reads_memory_by_a_call(arguments, caller):
    buffer = ctypes.create_string_buffer(16)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 16)
    remote = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 16)  # as the zygote's, of which all are forks

    def attempt(process):
        checked(libc.process_vm_readv(process, local, 1, remote, 1, 0))

    return reached(others(), attempt)


@core_function("reads environments")
def reads_environments(arguments, caller):
    return reached([f"/proc/{process}/environ" for process in others()], read)


@core_function("reads maps and open files")
def reads_maps(arguments, caller):
    return reached([f"/proc/{process}/maps" for process in others()], read) + reached(
        [f"/proc/{process}/fd" for process in others()], os.listdir
    )


@core_function("traces")
def traces(arguments, caller):
    return reached(others(), lambda process: checked(libc.ptrace(16, process, 0, 0)))  # PTRACE_ATTACH


@core_function("takes descriptors")
def takes_descriptors(arguments, caller):
    def attempt(process):
        handle = os.pidfd_open(process)
        try:
            for descriptor in range(20):
                if libc.syscall(438, handle, descriptor, 0) >= 0:  # pidfd_getfd(2)
                    return
        finally:
            os.close(handle)
        raise OSError(errno.EPERM, "refused")

    return reached(others(), attempt)


@core_function("signals")
def signals(arguments, caller):
    return reached(others(), lambda process: os.kill(process, 0))


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


SLOWER = {
    "priority": lambda process: os.setpriority(os.PRIO_PROCESS, process, 19),
    "priority of the group": lambda process: os.setpriority(os.PRIO_PGRP, os.getpgid(process) or process, 19),
    "scheduler": lambda process: os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0)),
    "processors": lambda process: os.sched_setaffinity(process, {min(os.sched_getaffinity(0))}),
    "disk": lambda process: checked(libc.syscall(IOPRIO_SET, 1, process, 3 << 13)),
    "limit": lambda process: resource.prlimit(process, resource.RLIMIT_NOFILE, (1, 1)),
    "session": lambda process: write(f"/proc/{process}/autogroup", "19"),
    "memory": lambda process: write(f"/proc/{process}/oom_score_adj", "1000"),
}
IOPRIO_SET = 251 if os.uname().machine == "x86_64" else 30


@core_function("slows others")
def slows_others(arguments, caller):
    return [f"{name}: {process}" for name, slow in SLOWER.items() for process in reached(others(), slow)]


@core_function("slows its supervisor at its end")
def slows_its_supervisor_at_its_end(arguments, caller):
    supervisor = os.getppid()
    for _ in range(20):
        if os.fork() == 0:
            while True:
                for slow in SLOWER.values():
                    try:
                        slow(supervisor)
                    except OSError:
                        pass
    time.sleep(0.2)
    return []


@core_function("replaces the socket")
def replaces_the_socket(arguments, caller):
    path = arguments["socket"]

    def attempt(change):
        change()

    def bind():
        socket.socket(socket.AF_UNIX).bind(f"{os.path.dirname(path)}/other.sock"[:100])

    found = []
    for name, change in {
        "remove": lambda: os.unlink(path),
        "rename": lambda: os.rename(path, path + ".old"),
        "link": lambda: os.symlink("/dev/null", path + ".link"),
        "mode": lambda: os.chmod(path, 0o777),
        "bind": bind,
    }.items():
        found += [name] * len(reached([change], attempt))
    return found


@core_function("calls the service")
def calls_the_service(arguments, caller):
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)

    def attempt(path):
        folder = os.open(os.path.dirname(path), os.O_PATH)
        connection.sock.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")

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
    started = 0
    try:
        while started < 1000:
            if os.fork() == 0:
                os.setsid()
                time.sleep(1000)
            started += 1
    except BlockingIOError:
        return []
    return [started]


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
    for folder in ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock"):
        try:
            with open(f"{folder}/{LEFT}", "w") as file:
                file.write(SECRET)
            os.makedirs(f"{folder}/{LEFT} too/a")
            os.chmod(f"{folder}/{LEFT} too", 0o777)
        except OSError:
            pass
    for make in (
        lambda key: libc.shmget(key, 4096, 0o1666),
        lambda key: libc.semget(key, 1, 0o1666),
        lambda key: libc.msgget(key, 0o1666),
    ):
        make(4_711_000 + os.getpid() % 1000)
    return []


@core_function("finds what others left")
def finds_what_others_left(arguments, caller):
    first = arguments["first_uid"]
    found = []
    for folder in ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock"):
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
