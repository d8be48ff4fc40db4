"""Verifications at a fixed rate: how long they take when they do not wait for each other (an open loop).

`python -m tests.bench.fixed_rate` asks, in a process of its own: what the caller does meanwhile must not delay it.
"""

import gc
import json
import os
import random
import re
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import count, takewhile
from typing import Any

from tests.bench import BenchError, load
from trial.environment import CHECKOUT, LOOPBACK

_CONNECTIONS = 40
_SETTLE_SECONDS = 0.5
_GRACE_SECONDS = 60
_BYTES = 65_536
_LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)


def p99(port: int, computers: Sequence[load.Computer], *, rate: float, seconds: float) -> float:
    """Return within how many milliseconds 99% are answered, of `rate` requests a second.

    Each has its due time. Where all connections wait for answers then, its time counts from when it was due.
    """
    bodies = [json.dumps(load.question(computer)) for computer in computers]
    text = json.dumps({"port": port, "bodies": bodies, "rate": rate, "seconds": seconds})
    command = [sys.executable, "-P", "-m", "tests.bench.fixed_rate"]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
    return float(load.run(command, environ, seconds=seconds + _GRACE_SECONDS, text=text))


def main() -> None:
    """Read the task from standard input, and print the result."""
    task = json.load(sys.stdin)
    requests = [_request(body.encode()) for body in task["bodies"]]
    gc.disable()
    try:
        taken = _ask(task["port"], requests, task["rate"], task["seconds"])
    except (BenchError, OSError) as error:
        sys.exit(str(error))
    print(statistics.quantiles(taken, n=100)[98] * 1000)


def _request(body: bytes) -> bytes:
    head = f"POST /v1/verify HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _ask(port: int, requests: Sequence[bytes], rate: float, seconds: float) -> list[float]:
    """Send each request when it is due, on the next free connection; return the seconds that each took."""
    import gevent.pool  # noqa: PLC0415  # only the process that asks has it
    from gevent import socket  # noqa: PLC0415

    connections = [socket.create_connection((LOOPBACK, port), load.SECONDS) for _ in range(_CONNECTIONS)]
    start, taken = time.perf_counter() + _SETTLE_SECONDS, list[float]()
    all_due = takewhile(lambda due: due < start + seconds, (start + number / rate for number in count()))

    def customer(connection: Any) -> None:  # gevent is untyped
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for due in all_due:
            begun = due
            if (early := due - time.perf_counter()) > 0:
                gevent.sleep(early)
                begun = time.perf_counter()  # that this process was woken late is not the service's doing
            connection.sendall(random.choice(requests))
            _await_acceptance(connection)
            taken.append(time.perf_counter() - begun)

    pool = gevent.pool.Pool()
    gevent.joinall([pool.spawn(customer, connection) for connection in connections], raise_error=True)
    return taken


def _await_acceptance(connection: Any) -> None:
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _receive(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if not head.startswith(b"HTTP/1.1 200 ") or length is None:
        raise BenchError(f"a verification is answered {head.splitlines()[0].decode('latin-1')}")
    missing = int(length[1]) - len(body)
    while missing > 0:
        missing -= len(_receive(connection))


def _receive(connection: Any) -> bytes:
    received: bytes = connection.recv(_BYTES)
    if not received:
        raise BenchError("a verification is not answered: the connection has ended")
    return received


if __name__ == "__main__":
    main()
