"""Many kept connections that ask the service one request after another, with the times of all answers."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from tests.support.licence.bound_cards import hardware_of
from tests.support.services.raw_http import posting
from tests.support.services.service import Service, question, wait_for

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_PAUSE_SECONDS = 0.02
"""How long a client waits after it got no answer, or 503."""


class Ask(NamedTuple):
    """What to ask, from which machine and address."""

    card_id: str
    hardware: str = "machine-1"
    address: str = "198.51.100.1"
    function: str = "f"

    def encoded(self) -> bytes:
        """The request as it travels behind a proxy."""
        body = json.dumps(question(self.card_id, self.hardware, self.function)).encode()
        return posting("/v1/verify", body).replace(b"X-Real-IP: 127.0.0.1", f"X-Real-IP: {self.address}".encode())


def own(card_id: str) -> Ask:
    """A request from the machine that `write_bound` has bound the card to."""
    return Ask(card_id, hardware_of(card_id))


class Answered(NamedTuple):
    """An answer, with the monotonic times before the request and after the answer; status 0 if none came."""

    ask: Ask
    sent: float
    received: float
    status: int
    headers: bytes = b""
    body: dict[str, Any] = {}  # noqa: RUF012  # nobody writes to it

    @property
    def code(self) -> str:
        return str(self.body.get("code"))


class Streams:
    """Runs a connection for each of `sources`, which return what to ask next, None at the end.

    A connection that breaks is opened again.
    """

    def __init__(self, service: Service, sources: list[Callable[[], Ask | None]]) -> None:
        self._port = service.port
        self._sources = sources
        self._is_over = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.answers: list[Answered] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self.join()

    def join(self) -> Self:
        """Wait until all sources have ended, and the last answers have come."""
        self._thread.join(600)
        assert not self._thread.is_alive()
        return self

    def wait_for_answers(self, more: int, matches: Callable[[Answered], bool] = lambda _answer: True) -> None:
        """Wait for so many further answers that match, each to a request that is sent from now on."""
        begun, now = len(self.answers), time.monotonic()
        wait_for(lambda: sum(a.sent > now and matches(a) for a in self.answers[begun:]) >= more, 60)

    async def _run(self) -> None:
        await asyncio.gather(*(self._connection(source) for source in self._sources))

    async def _connection(self, source: Callable[[], Ask | None]) -> None:
        writer = None
        while not self._is_over and (ask := source()) is not None:
            sent = time.monotonic()
            answered = Answered(ask, sent, sent, 0)
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(ask.encoded())
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                assert length is not None
                body = json.loads(await reader.readexactly(int(length[1])))
                answered = Answered(ask, sent, time.monotonic(), int(head.split()[1]), head, body)
            except (OSError, asyncio.IncompleteReadError):
                if writer is not None:
                    writer.close()
                writer = None
            self.answers.append(answered)
            if answered.status in {0, 503}:
                await asyncio.sleep(_PAUSE_SECONDS)
        if writer is not None:
            writer.close()
            await writer.wait_closed()
