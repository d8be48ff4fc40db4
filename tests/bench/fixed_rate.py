"""Verifications at a fixed rate: how long they take when they do not wait for each other (an open loop).

`python -m tests.bench.fixed_rate` asks, in a process of its own: what the caller does meanwhile must not delay it.
"""

import gc
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import count, takewhile
from typing import Any, BinaryIO

from tests.bench import BenchError, load, run
from trial.environment import CHECKOUT, LOOPBACK

_CONNECTIONS = 40
_SETTLE_SECONDS = 0.5
_GRACE_SECONDS = 60
_CARDS = 1_000


def p99(port: int, *, cards: int, rate: float, seconds: int) -> float:
    """Return within how many milliseconds 99% are answered, of `rate` requests a second.

    Each has its due time. Where all connections wait for answers then, its time counts from when it was due.
    """
    task = (port, min(cards, _CARDS), rate, seconds)
    command = [sys.executable, "-P", "-m", "tests.bench.fixed_rate", *map(str, task)]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
    return float(run(command, env=environ, timeout=seconds + _GRACE_SECONDS))


def main(port: str, cards: str, rate: str, seconds: str) -> None:
    """Ask, and print the result."""
    requests = [_request(json.dumps(load.question(number)).encode()) for number in range(int(cards))]
    gc.disable()
    try:
        taken = _ask(int(port), requests, float(rate), int(seconds))
    except (BenchError, OSError) as error:
        sys.exit(str(error))
    print(statistics.quantiles(taken, n=100)[98] * 1000)


def _request(body: bytes) -> bytes:
    head = f"POST /v1/verify HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _ask(port: int, requests: Sequence[bytes], rate: float, seconds: int) -> list[float]:
    """Send each request when it is due, on the next free connection; return the seconds that each took."""
    import gevent.pool  # noqa: PLC0415  # only the process that asks has it
    from gevent import socket  # noqa: PLC0415

    connections = [socket.create_connection((LOOPBACK, port), load.SECONDS) for _ in range(_CONNECTIONS)]
    start, taken = time.perf_counter() + _SETTLE_SECONDS, list[float]()
    all_due = takewhile(lambda due: due < start + seconds, (start + number / rate for number in count()))

    def customer(connection: Any) -> None:  # gevent is untyped
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers = connection.makefile("rb")
        for due in all_due:
            begun = due
            if (early := due - time.perf_counter()) > 0:
                gevent.sleep(early)
                begun = time.perf_counter()  # that this process was woken late is not the service's doing
            connection.sendall(random.choice(requests))
            _await_acceptance(answers)
            taken.append(time.perf_counter() - begun)

    pool = gevent.pool.Pool()
    gevent.joinall([pool.spawn(customer, connection) for connection in connections], raise_error=True)
    return taken


def _await_acceptance(answers: BinaryIO) -> None:
    status = answers.readline()
    if not status.startswith(b"HTTP/1.1 200 "):
        raise BenchError(f"a verification is answered {status!r}")
    headers = dict(line.lower().split(b":", 1) for line in iter(answers.readline, b"\r\n"))
    answers.read(int(headers[b"content-length"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
