"""Verifications at a fixed rate, over a few connections: how long each takes."""

import contextlib
import http.client
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from bench import http_requests
from bench.cards import Computer

_CONNECTIONS = 20
_SETTLE_SECONDS = 0.5


def p99(
    connect: Callable[[], http.client.HTTPConnection], computers: Sequence[Computer], *, rate: int, seconds: float
) -> float:
    """Return within how many milliseconds 99% are answered, of `rate` requests a second.

    Each has its due time, and one that has to wait for the answer before it has waited since then.

    Raises:
        BenchError: one is not accepted.
    """
    start, stop = time.perf_counter() + _SETTLE_SECONDS, threading.Event()

    def taken(first: int) -> list[float]:
        seconds_taken = []
        with contextlib.closing(connect()) as connection:
            connection.connect()
            for number in range(first, round(rate * seconds), _CONNECTIONS):
                due = start + number / rate
                if (early := due - time.perf_counter()) > 0 and not stop.wait(early):
                    due = time.perf_counter()  # that this process was woken late is not the service's doing
                if stop.is_set():
                    break
                http_requests.post(connection, "/v1/verify", http_requests.question(random.choice(computers)))
                seconds_taken.append(time.perf_counter() - due)
        return seconds_taken

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        try:
            all_taken = [one for part in pool.map(taken, range(_CONNECTIONS)) for one in part]
        finally:
            stop.set()  # also when one has failed, or Ctrl-C was pressed
    return statistics.quantiles(all_taken, n=100)[98] * 1000
