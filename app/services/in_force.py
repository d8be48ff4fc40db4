"""The vendor's terms and block list, as each process holds them (protocol, section 2: in force within two seconds)."""

import logging
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
logger = logging.getLogger(__name__)


class InForce(NamedTuple):
    """What requests are judged by: the terms, how often they were changed, and the blocks."""

    terms: Terms = Terms()
    revision: int = 0
    blocks: BlockList = BlockList()


class VendorRules:
    """What is in force, read again every second; how often blocks were met is written after that."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._reader = _Reader(clock)
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

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._hits: Counter[int] = Counter()
        self._blocks: tuple[tuple[int, int], BlockList] = ((0, 0), BlockList())

    def hit(self, block_id: int) -> None:
        with self._lock:
            self._hits[block_id] += 1

    def read(self) -> InForce:
        mark, listed = self._blocks
        if (now := blocks.mark()) != mark:
            listed = BlockList(blocks.in_force())
            self._blocks = now, listed
        revision, found = terms.read()
        self._write_hits()
        return InForce(found, revision, listed)

    def _write_hits(self) -> None:
        """Write the hits, or keep them for the next time: what is in force does not wait for them."""
        with self._lock:
            hits, self._hits = self._hits, Counter()  # taken, since another thread may read at the same time
        if not hits:
            return
        left = set(hits)
        try:
            left = blocks.add_hits(hits, self._clock())
        except Exception:  # whatever it is, the next reading says so, too
            logger.warning("hits of blocks cannot be written", exc_info=True)
        with self._lock:
            self._hits += Counter({block_id: hits[block_id] for block_id in left})
