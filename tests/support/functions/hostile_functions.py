"""Functions that misbehave. Tests copy this module into the folder of the functions service."""

import ctypes
import encodings.idna  # for socket.create_connection, where calls cannot read Python's folder
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
    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            pass


@core_function("blocked in C")
def blocked(arguments, caller):
    ctypes.PyDLL(None).sleep(1000)  # with the interpreter's lock held


@core_function("printing")
def printing(arguments, caller):
    while True:
        os.write(1, b"x" * 65536)


@core_function("descriptors closed, asleep")
def closed(arguments, caller):
    os.closerange(0, 100)
    time.sleep(1000)


@core_function("segfault")
def segfault(arguments, caller):
    ctypes.string_at(0)


@core_function("2 GiB")
def two_gib(arguments, caller):
    return len(bytearray(2 * 1024**3))


@core_function("thread without end")
def thread_without_end(arguments, caller):
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return "done"


@core_function("fork that returns")
def fork_that_returns(arguments, caller):
    return "not me" if os.fork() == 0 else "done"


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


@core_function("children that stay")
def children_that_stay(arguments, caller):
    stay()
    return "done"


@core_function("children that stay, and hangs")
def children_that_stay_and_hangs(arguments, caller):
    stay()
    time.sleep(1000)


@core_function("200 processes")
def many_processes(arguments, caller):
    for _ in range(200):
        if os.fork() == 0:
            os.setsid()
            time.sleep(1000)
    time.sleep(1000)


tempfile.gettempdir()  # as modules do that are imported: it remembers its answer

ENDINGS = {
    "returns": lambda: None,
    "exits": lambda: os._exit(1),
    "hangs": lambda: time.sleep(1000),
}


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
    for descriptor in range(3, 20):
        try:
            os.write(descriptor, arguments["text"].encode("latin-1"))
        except OSError:
            pass
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
