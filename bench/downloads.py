"""Downloads that the app itself sends, to customers who read slowly."""

from collections.abc import Sequence
from contextlib import closing
from types import TracebackType
from typing import Self

from bench import http_requests
from bench.cards import Computer
from bench.curl import Crowd
from bench.gunicorn import Gunicorn


class Downloads:
    """While the block lasts, each of these computers downloads the licensed file; the end of the block waits for them.

    Args:
        service: Has one licensed file, which is too large to be downloaded meanwhile.
        computers: Who downloads.
        seconds: How long each goes on; longer than what is done in the block.
        mbit: What each reads, in Mbit/s.
    """

    def __init__(self, service: Gunicorn, computers: Sequence[Computer], *, seconds: int, mbit: float) -> None:
        with closing(service.connect()) as connection:
            links = http_requests.links(connection, service.url, computers)
        self._crowd = Crowd(links, None, seconds=seconds, bytes_a_second=round(mbit * 1_000_000 / 8))
        self._rates: list[float] = []

    def __enter__(self) -> Self:
        self._crowd.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._rates = self._crowd.finish()
        finally:
            self._crowd.__exit__(kind, error, trace)

    def figures(self) -> dict[str, float]:
        """Return how many went on to the end, and what came to all of them, after the block."""
        return {"downloads under way": len(self._rates), "   all of them, Mbit/s": sum(self._rates)}
