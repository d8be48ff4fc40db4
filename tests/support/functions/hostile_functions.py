"""Functions that misbehave, and intruders, which attack the service and other calls and return what they reached.

Tests copy this module into the folder of the functions service.
"""

import ctypes
import encodings.idna  # for socket.create_connection, where calls cannot read Python's folder
import errno
import glob
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from app.functions import core_function


@core_function("deaf")
def deaf(arguments, caller):
    for number in set(range(1, 32)) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            pass


@core_function("printing")
def printing(arguments, caller):
    while True:
        os.write(1, b"x" * 65536)


@core_function("output closed")
def output_closed(arguments, caller):
    sys.stdout.close()
    sys.stderr = None
    os.closerange(0, 3)
    return "done"


def stay():
    for _ in range(3):
        subprocess.Popen(["/bin/sh", "-c", "trap '' HUP TERM INT; sleep 1000 & sleep 1001"], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            while True:
                time.sleep(1)
        os._exit(0)
    time.sleep(0.2)


# By name: what each does, and what it returns.
SIMPLE = {
    "blocked in C": (lambda: ctypes.PyDLL(None).sleep(1000), None),  # with the interpreter's lock held
    "descriptors closed, asleep": (lambda: (os.closerange(0, 100), time.sleep(1000)), None),
    "segfault": (lambda: ctypes.string_at(0), None),
    "2 GiB": (lambda: len(bytearray(2 * 1024**3)), None),
    "thread without end": (lambda: threading.Thread(target=time.sleep, args=(1000,)).start(), "done"),
    "children that stay": (lambda: stay(), "done"),
    "children that stay, and hangs": (lambda: (stay(), time.sleep(1000)), None),
}
for name, (act, result) in SIMPLE.items():
    core_function(name)(lambda arguments, caller, act=act, result=result: (act(), result)[1])


@core_function("fork that returns")
def fork_that_returns(arguments, caller):
    return "not me" if os.fork() == 0 else "done"


@core_function("200 processes")
def many_processes(arguments, caller):
    for _ in range(200):
        if os.fork() == 0:
            os.setsid()
            time.sleep(1000)
    time.sleep(1000)


tempfile.gettempdir()  # as modules do that are imported: it remembers its answer

ENDINGS = {"returns": lambda: None, "exits": lambda: os._exit(1), "hangs": lambda: time.sleep(1000)}


@core_function("temporary files")
def temporary_files(arguments, caller):
    folder = tempfile.mkdtemp()
    with open(f"{folder}/file", "w") as file:
        file.write("another customer's")
    os.mkdir(f"{folder}/locked", 0)
    child = subprocess.run(["mktemp"], stdout=subprocess.PIPE, text=True)
    with socket.create_connection(("127.0.0.1", arguments["port"])) as told:
        told.sendall(f"{tempfile.gettempdir()} {folder} {child.stdout}".encode())
    ENDINGS[arguments["then"]]()


@core_function("large file")
def large_file(arguments, caller):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open("/tmp/kadun-large-file", "wb", buffering=0) as file:
        os.unlink(file.name)
        for _ in range(100):
            file.write(b"x" * 1024**2)


@core_function("prints much")
def prints_much(arguments, caller):
    print("the beginning")
    for _ in range(1000):
        print("x" * 1000)
    print("the end")
    return "done"


@core_function("writes its outcome itself")
def writes_its_outcome_itself(arguments, caller):
    reached(range(3, 20), lambda descriptor: os.write(descriptor, arguments["text"].encode("latin-1")))
    os._exit(0)


@core_function("surroundings")
def surroundings(arguments, caller):
    descriptors = []
    for descriptor in range(100):
        try:
            descriptors.append(os.readlink(f"/proc/self/fd/{descriptor}").partition(":")[0])
        except OSError:
            pass
    with open("/proc/self/oom_score_adj") as file:
        adjustment = file.read().strip()
    with open("/proc/self/environ") as file:
        environment = [entry.partition("=")[0] for entry in file.read().split("\0") if entry]
    return {
        "environment": sorted({*os.environ, *environment}),
        "descriptors": descriptors,
        "niceness": os.nice(0),
        "oom_score_adj": adjustment,
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "leads a session": os.getsid(0) == os.getpid(),
        "folder": os.getcwd(),
        "threads": threading.active_count(),
    }


libc = ctypes.CDLL(None, use_errno=True)
NOTHING = []
"""Functions that return a list of what they reached, and must reach nothing."""
SECRET = "a customer's secret"
LEFT = "left by a call"
SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")


def intruder(name):
    NOTHING.append(name)
    return core_function(name)


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
    intruder(name)(attacks_others(attempts))
intruder("kills its supervisor")(
    lambda arguments, caller: reached([os.getppid()], lambda process: os.kill(process, signal.SIGKILL))
)


@intruder("kills all")
def kills_all(arguments, caller):
    reached([-1], lambda process: os.kill(process, signal.SIGKILL))  # all of this user but this process
    return reached([os.getppid()], lambda process: os.kill(process, signal.SIGSTOP))


@intruder("slows its supervisor at its end")
def slows_its_supervisor_at_its_end(arguments, caller):
    supervisor = os.getppid()
    for _ in range(20):
        if os.fork() == 0:
            while True:
                reached(SLOWER, lambda slow: slow(supervisor))
    time.sleep(0.2)
    return []


@intruder("replaces the socket")
def replaces_the_socket(arguments, caller):
    path = arguments["socket"]

    changes = (
        lambda: os.unlink(path),
        lambda: os.rename(path, path + ".old"),
        lambda: os.symlink("/dev/null", path + ".link"),
        lambda: os.chmod(path, 0o777),
        lambda: socket.socket(socket.AF_UNIX).bind(f"{os.path.dirname(path)}/other.sock"[:100]),
    )
    return reached(changes, lambda change: change())


@intruder("calls the service")
def calls_the_service(arguments, caller):
    def attempt(path):
        folder = os.open(os.path.dirname(path), os.O_PATH)
        socket.socket(socket.AF_UNIX).connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")

    return reached([arguments["socket"]], attempt)


@intruder("changes the functions")
def changes_the_functions(arguments, caller):
    folder = os.path.dirname(__file__)
    names = ["new.py", "well.py", "hostile.py", "../other", "../functions-packages/x.pth"]
    found = reached([f"{folder}/{name}" for name in names], lambda path: open(path, "a").close())
    return found + reached([f"{folder}/__pycache__"], os.mkdir)


@intruder("becomes another user")
def becomes_another_user(arguments, caller):
    users = [0, 1, 1000, 10001, os.getuid() - 1, os.getuid() + 1, os.getuid() + 2, os.getuid() + 3]
    return (
        reached(users, lambda user: os.setresuid(user, user, user))
        + reached([user for user in users if user != os.getgid()], lambda user: os.setresgid(user, user, user))
        + reached([[0], [101]], os.setgroups)
    )


@intruder("gains privileges")
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


@intruder("raises its limits")
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


@intruder("forks without end")
def forks_without_end(arguments, caller):
    try:
        for _ in range(1000):
            if os.fork() == 0:
                os.setsid()
                time.sleep(1000)
    except BlockingIOError:
        return []
    return ["a thousand processes"]


@intruder("fills the disk")
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


@intruder("leaves files")
def leaves_files(arguments, caller):
    def leave(folder):
        write(f"{folder}/{LEFT}", SECRET)
        os.makedirs(f"{folder}/{LEFT} too/a")
        os.chmod(f"{folder}/{LEFT} too", 0o777)

    reached(SHARED, leave)
    key = 4_711_000 + os.getpid() % 1000
    libc.shmget(key, 4096, 0o1666)
    libc.semget(key, 1, 0o1666)
    libc.msgget(key, 0o1666)
    return []


@intruder("finds what others left")
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


@intruder("reads scratch folders")
def reads_scratch_folders(arguments, caller):
    folders = [path for path in glob.glob("/tmp/kadun-call-*") if path != tempfile.gettempdir()]
    attempts = (os.listdir, os.rmdir, lambda path: os.chmod(path, 0o777))
    return [path for attempt in attempts for path in reached(folders, attempt)]


@intruder("outlives its call")
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


@intruder("reads files")
def reads_files(arguments, caller):
    return reached(arguments["paths"], lambda path: os.listdir(path) if os.path.isdir(path) else read(path))
