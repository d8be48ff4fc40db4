"""The core functions of the stack that serves; copied into its folder for them."""

import mmap
import os
import socket
import time
from pathlib import Path
from typing import Any

from app.functions import core_function


@core_function("加一")
def increase(arguments: dict[str, Any], caller: Any) -> dict[str, Any]:
    return {"sum": arguments["number"] + 1, "card": caller.card_id}


@core_function("占内存")
def take_memory(arguments: dict[str, Any], caller: Any) -> None:
    """Take memory that no limit of a process counts: in many children, or shared."""
    for _ in range(arguments["children"]):
        if os.fork() == 0:
            taken = bytearray(30 * 1024**2)
            time.sleep(1000)
    if arguments["children"]:
        os.wait()  # which ends when the kernel has ended one of them
        raise MemoryError
    taken = mmap.mmap(-1, 600 * 1024**2)
    for start in range(0, len(taken), mmap.PAGESIZE):
        taken[start] = 1
    time.sleep(1000)


@core_function("看")
def look(arguments: dict[str, Any], caller: Any) -> dict[str, Any]:
    """Return what this code can see and do."""
    sockets = [
        f"{folder}/{name}"
        for folder, _, names in os.walk("/")
        if not folder.startswith(("/proc", "/sys", "/dev"))
        for name in names
        if Path(folder, name).is_socket()
    ]
    return {
        "environment": dict(os.environ),
        "environs": succeeding(lambda path: Path(path).read_bytes().decode(errors="replace"), environ_files()),
        "written": succeeding(lambda folder: Path(folder, "mark").write_text("mine"), arguments["folders"]),
        "connected": succeeding(lambda address: socket.create_connection(address, 2).close(), arguments["addresses"]),
        "sockets": sockets,
        "interfaces": [name for _, name in socket.if_nameindex()],
        "mounts": [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()],
        "status": dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line
        ),
        "present": [path for path in arguments["paths"] if Path(path).exists()],
    }


def environ_files() -> list[str]:
    return [str(file) for file in Path("/proc").glob("[0-9]*/environ")]


def succeeding(attempt: Any, targets: list[Any]) -> list[Any]:
    found = []
    for target in targets:
        try:
            got = attempt(tuple(target) if isinstance(target, list) else target)
        except OSError:
            continue
        found.append(got if isinstance(got, str) else target)
    return found
