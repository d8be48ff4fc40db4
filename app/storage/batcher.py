"""Records the verifications that change nothing, many in one statement (docs/decisions.md)."""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from datetime import date, datetime
from typing import Any, NamedTuple

import gevent
import psycopg2
from gevent import monkey
from gevent.event import Event

from app.domain.cards.cards import CardFacts
from app.domain.licence.policy import ClientFacts, Facts, VerificationRequest
from app.storage.database import Database, execute_prepared

MAX_CARDS = 200
"""How many cards one statement touches at most: what comes meanwhile waits for all of it."""
logger = logging.getLogger(__name__)

SESSION = {
    # A crash costs only the last counts and times, so these commits do not wait for the disk.
    "synchronous_commit": "off",
    # A row that somebody holds must not hold up everybody: the batch goes the careful way. Less than PostgreSQL's
    # `deadlock_timeout`, so that operators, who may lock in another order, are never the ones to give way.
    "lock_timeout": "100ms",
    # The planner cannot know how few rows the arrays have: it would plan anew for each, or read whole tables.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
ANSWER_SECONDS = 15.0
"""More than the server's own limit for a statement: this one is for a server that has gone without a word."""
_RunPrepared = Callable[..., list[tuple[Any, ...]]]


class _Touch(NamedTuple):
    """What is looked for and where it counts; requests that are equal in it are recorded as one."""

    card_id: str
    hardware_sha256: str
    address: str
    function: str
    program: str


class _Batch:
    """Requests that one statement records, of each card equal ones, on one day; they wait for the event `done`."""

    def __init__(self, day: date, done: Any = None) -> None:  # noqa: ANN401  # gevent is untyped
        self.day = day
        self.done = done
        self.at: datetime | None = None
        self.found: dict[str, Facts] = {}
        self._touches: dict[str, _Touch] = {}
        self._times: dict[str, int] = {}

    def takes(self, touch: _Touch, day: date) -> bool:
        """Whether the request can be recorded with the others."""
        other = self._touches.get(touch.card_id)
        return day == self.day and (len(self._touches) < MAX_CARDS if other is None else touch == other)

    def add(self, touch: _Touch, at: datetime) -> None:
        """Add a request."""
        self._touches[touch.card_id] = touch
        self._times[touch.card_id] = self._times.get(touch.card_id, 0) + 1
        self.at = at if self.at is None else max(at, self.at)

    def record(self, run_prepared: _RunPrepared) -> None:
        """Execute the statement, and keep the facts of the cards that it touched."""
        touches = sorted(self._touches.values())  # by card: all lock their rows in one order
        arrays = [_array(texts) for texts in zip(*touches, strict=True)]
        times = f"{{{','.join(str(self._times[touch.card_id]) for touch in touches)}}}"
        for card_id, *row in run_prepared("touch", *arrays, times, self.day, self.at):
            card = CardFacts(card_id, *row[:5])._replace(program=self._touches[card_id].program)
            client = ClientFacts(row[5], card_id, row[6], row[7])
            self.found[card_id] = Facts(card, client)


class Batcher:
    """Records requests of bound cards that change nothing but the client's time and function, and the usage.

    In gunicorn, while one statement is under way the requests that arrive gather for the next; one alone goes at once.
    Each waits until its statement is committed. The database has the statement `touch` prepared on each connection.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Any = None
        self._is_batching = monkey.is_module_patched("threading")
        self._gathering: deque[_Batch] = deque()
        self._is_recording = False

    def touch(self, request: VerificationRequest, at: datetime, day: date) -> Facts | None:
        """Record a request, if it changes nothing; return the facts that were found, with the card and its client.

        None when the request changes more, is to be rejected or is the day's first of the function, or the database
        failed: nothing is known to be recorded.
        """
        asked = (request.address, request.function, request.program)
        touch = _Touch(request.card_id, request.hardware_sha256, *asked)
        if not self._is_batching:
            batch = _Batch(day)
            batch.add(touch, at)
            batch.record(self._database.run_prepared)
            return batch.found.get(request.card_id)
        batch = self._batch_for(touch, day)
        batch.add(touch, at)
        if not self._is_recording:
            self._is_recording = True
            gevent.spawn_raw(self._record)  # begins when the requests that are being read now have been added
        batch.done.wait()
        return batch.found.get(request.card_id)

    def _batch_for(self, touch: _Touch, day: date) -> _Batch:
        for batch in self._gathering:
            if batch.takes(touch, day):
                return batch
        self._gathering.append(_Batch(day, Event()))
        return self._gathering[-1]

    def _record(self) -> None:
        try:
            while self._gathering:
                batch = self._gathering.popleft()
                try:
                    batch.record(self._run)
                except Exception as error:  # noqa: BLE001  # each goes the careful way, and meets and reports the same
                    logger.info("no touch", extra={"reason": str(error).strip()})
                finally:
                    batch.done.set()
        finally:
            self._is_recording = False

    def _run(self, name: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Execute a prepared statement, and once more on a new connection where the kept one turns out to be broken."""
        if self._connection is not None and not self._connection.closed:
            try:
                return self._execute(name, *arguments)
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                if not self._connection.closed:
                    raise
        self._connection = self._database.open_apart(SESSION)
        return self._execute(name, *arguments)

    def _execute(self, name: str, *arguments: object) -> list[tuple[Any, ...]]:
        with gevent.Timeout(ANSWER_SECONDS, psycopg2.OperationalError("no answer in time")):
            return execute_prepared(self._connection, name, *arguments)


def _array(texts: Iterable[str]) -> str:
    """Return an array as PostgreSQL reads it (manual, 8.15.6): one literal is cheaper than an expression of many."""
    quoted = '","'.join(text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return f'{{"{quoted}"}}'
