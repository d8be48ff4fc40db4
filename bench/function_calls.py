"""Customers who call core functions, one call after the other, each with a card and a connection of its own."""

import http
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from typing import NamedTuple, Self

from bench import http_requests
from bench.cards import Computer
from bench.errors import BenchError

_RETRY_SECONDS = 2  # the Retry-After of such an answer


class Call(NamedTuple):
    """One call: the answer's status, when it was asked and answered (seconds of time.perf_counter)."""

    status: int
    begun: float
    ended: float


class FunctionCallers:
    """While the block lasts, `functions` are called, each by a customer who calls again as soon as answered.

    A customer who is refused calls again when Retry-After allows it.

    Args:
        connect: Makes a connection to the service.
        computers: Whose cards; as many as functions.
        functions: Their names.
        expected: The status of a call that took place; 503, refused since all places are taken, may come too.
    """

    def __init__(
        self,
        connect: Callable[[], HTTPConnection],
        computers: Sequence[Computer],
        functions: Sequence[str],
        *,
        expected: http.HTTPStatus,
    ) -> None:
        self._connect = connect
        self._customers = list(zip(computers, functions, strict=True))
        self._expected = expected
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(len(functions))
        self._calling: list[Future[None]] = []
        self._calls: list[Call] = []

    def __enter__(self) -> Self:
        self._begun = time.perf_counter()
        self._calling = [self._pool.submit(self._call, *customer) for customer in self._customers]
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = time.perf_counter()
        self._stop.set()
        self._pool.shutdown()

    def calls(self) -> list[Call]:
        """Return the calls that took place, after the block.

        Raises:
            BenchError: one had another answer than expected.
        """
        for calling in self._calling:
            calling.result()
        return [call for call in self._calls if call.status == self._expected]

    def figures(self) -> dict[str, float]:
        """Return how many calls were under way on average, and how many were refused, after the block.

        Raises:
            BenchError: one had another answer than expected.
        """
        under_way = sum(min(call.ended, self._ended) - call.begun for call in self.calls())
        refused = sum(call.status == http.HTTPStatus.SERVICE_UNAVAILABLE for call in self._calls)
        seconds = self._ended - self._begun
        return {"calls under way, on average": under_way / seconds, "   refused, a second": refused / seconds}

    def _call(self, computer: Computer, function: str) -> None:
        while not self._stop.is_set():
            begun = time.perf_counter()
            with closing(self._connect()) as connection:
                status, answer = http_requests.exchange(
                    connection, "/v1/execute", http_requests.question(computer, function, arguments={})
                )
            self._calls.append(Call(status, begun, time.perf_counter()))
            if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
                self._stop.wait(_RETRY_SECONDS)
            if status not in (self._expected, http.HTTPStatus.SERVICE_UNAVAILABLE):
                raise BenchError(f"a call of {function} is answered {status}: {answer.get('code', 'a verdict')}")
