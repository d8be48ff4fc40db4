"""A person who exports all cards again and again."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Self

from bench.visitor import Visitor


class Exports:
    """While the block lasts, `visitor` exports all cards as CSV, and begins again as soon as a file is complete."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._exporting: Future[float] | None = None

    def __enter__(self) -> Self:
        self._exporting = self._pool.submit(self._export)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown()

    def figures(self) -> dict[str, float]:
        """Return how many lines came a second, after the block.

        Raises:
            BenchError: an export was refused.
        """
        return {"lines exported, a second": self._exporting.result()} if self._exporting else {}

    def _export(self) -> float:
        begun, lines = time.perf_counter(), 0
        while not self._stop.is_set():
            with closing(self._visitor.export()) as pieces:
                for piece in pieces:
                    lines += piece.count(b"\n")
                    if self._stop.is_set():
                        break
        return lines / (time.perf_counter() - begun)
