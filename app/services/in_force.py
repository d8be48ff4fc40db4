"""The vendor's terms and block list, as each process holds them (protocol, section 2: in force within two seconds)."""

import threading
from collections import Counter
from typing import NamedTuple

from app.clock import Clock
from app.domain.blocks import BlockList
from app.domain.terms import Terms
from app.services.held import Held
from app.storage import blocks, terms
from app.storage.database import Database

_SECONDS = 1.0


class InForce(NamedTuple):
    """What requests are judged by: the terms, how often they were changed, and the blocks."""

    terms: Terms = Terms()
    revision: int = 0
    blocks: BlockList = BlockList()


class VendorRules:
    """What is in force, read again every second; how often blocks were met is written then."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._reader = _Reader(database, clock)
        self._held = Held(database, self._reader.read, _SECONDS)

    def get(self) -> InForce:
        """Return what is in force.

        Raises:
            DatabaseUnavailableError: the database was away since this process began.
        """
        return self._held.get()

    def renew(self) -> None:
        """Read now what is in force, after this process has changed it.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        self._held.renew()

    def hit(self, block_id: int) -> None:
        """Count a request that met a block; it is written within a second."""
        self._reader.hit(block_id)


class _Reader:
    """Reads the terms, and the blocks where they have changed; writes hits."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._hits: Counter[int] = Counter()
        self._mark: tuple[int, int] | None = None
        self._blocks = BlockList()

    def hit(self, block_id: int) -> None:
        with self._lock:
            self._hits[block_id] += 1

    def read(self) -> InForce:
        self._write_hits()
        mark = blocks.mark()
        if mark != self._mark:
            self._blocks = BlockList(blocks.in_force())
            self._mark = mark
        revision, found = terms.read()
        return InForce(found, revision, self._blocks)

    def _write_hits(self) -> None:
        with self._lock:
            hits, self._hits = self._hits, Counter()  # taken, since another thread may read at the same time
        if not hits:
            return
        try:
            with self._database.atomic():
                blocks.add_hits(hits, self._clock())
        except Exception:
            with self._lock:
                self._hits += hits
            raise
