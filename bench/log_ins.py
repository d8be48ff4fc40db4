"""People who log in to the console: half of them operators, half with wrong passwords."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from http import HTTPStatus
from itertools import count
from typing import Self
from urllib.parse import urlencode

from bench.errors import BenchError
from bench.gunicorn import Gunicorn
from trial.ports import LOOPBACK

_AT_ONCE = 200
_HEADERS = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
_CHECKED = (HTTPStatus.SEE_OTHER, HTTPStatus.FORBIDDEN)  # right and wrong passwords


class LogIns:
    """While a block lasts, `rate` log-ins begin each second, alternately a right and a wrong password.

    Wrong ones come from an address of their own each, since the service slows down an address that fails.

    Args:
        service: The service.
        operators: Their names.
        password: Everyone's.
        rate: Log-ins a second.
    """

    def __init__(self, service: Gunicorn, operators: Sequence[str], password: str, rate: float) -> None:
        self._service = service
        self._operators = operators
        self._password = password
        self._rate = rate
        self._numbers = count()
        self._statuses: Counter[int] = Counter()
        self._asking: list[Future[None]] = []
        self._stop = threading.Event()
        self._begun = self._ended = 0.0

    def __enter__(self) -> Self:
        self._statuses.clear()
        self._asking.clear()
        self._stop.clear()
        self._begun = time.perf_counter()
        self._pool = ThreadPoolExecutor(_AT_ONCE)
        self._asking.append(self._pool.submit(self._schedule))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown()
        self._ended = time.perf_counter()

    def figures(self) -> dict[str, float]:
        """Return how many passwords were checked a second and how many log-ins refused, after the block.

        Raises:
            BenchError: a log-in had another answer than these.
        """
        for asking in self._asking:
            asking.result()
        seconds = self._ended - self._begun
        checked = sum(self._statuses[status] for status in _CHECKED)
        return {
            "log-ins checked, a second": checked / seconds,
            "   refused as too many at once": self._statuses[HTTPStatus.SERVICE_UNAVAILABLE] / seconds,
        }

    def _schedule(self) -> None:
        for turn in count():
            if self._stop.wait(max(0.0, self._begun + turn / self._rate - time.perf_counter())):
                return
            self._asking.append(self._pool.submit(self._log_in, next(self._numbers)))

    def _log_in(self, number: int) -> None:
        name = self._operators[number // 2 % len(self._operators)]
        if number % 2:
            address = f"127.{1 + number // 62_500 % 250}.{number // 250 % 250}.{1 + number % 250}"
            status = self._ask(name, "wrong", address)
        else:
            status = self._ask(name, self._password, LOOPBACK)
        self._statuses[status] += 1
        if status not in (*_CHECKED, HTTPStatus.SERVICE_UNAVAILABLE):
            raise BenchError(f"a log-in is answered {status}")

    def _ask(self, name: str, password: str, address: str) -> int:
        """Send the form; return the answer's status."""
        with closing(self._service.connect(address)) as connection:
            connection.request("POST", "/admin/login", urlencode({"name": name, "password": password}), _HEADERS)
            answer = connection.getresponse()
            answer.read()
            return answer.status
