"""The block list (黑名单): listed, added to and removed from, each change with its journal entry."""

import hashlib
from datetime import datetime, timedelta
from typing import Any

from peewee import IntegrityError
from psycopg2.errors import UniqueViolation

from app.domain.cards.cards import parse_card_id_beginning
from app.domain.codes import Code, EventKind
from app.domain.licence.blocks import read_block_network
from app.domain.licence.policy import MAX_HARDWARE
from app.domain.texts import RefusedError, check_text
from app.services.operators.ceilings import Acting
from app.storage import journal
from app.storage.cards import of_program
from app.storage.models import Block, Client

MAX_BLOCKS = 10_000
"""Each process holds them all in memory."""
PAGE_ROWS = 50
HITS_PERIOD = timedelta(days=7)
_HITS = """
SELECT (details ->> 'block')::bigint, count(*) FROM event
WHERE COALESCE(code, kind) = %(code)s AND at >= %(since)s
    AND (%(program)s::text IS NULL OR card_id IN (SELECT id FROM card WHERE program = %(program)s)) GROUP BY 1
"""


class BlockNotFoundError(RefusedError):
    """No such block."""

    def __init__(self, block_id: int) -> None:
        super().__init__(f"黑名单中没有编号 {block_id}", f"there is no block {block_id}")


class Blocks(Acting):
    """The block list of one database; each change counts among the cards that an operator changes in a day."""

    def list(self) -> list[Block]:
        """Return all blocks, the newest first."""
        return list(Block.select().order_by(Block.id.desc()))

    def page(self, below: int | None = None, program: str | None = None) -> dict[str, Any]:
        """Return up to `PAGE_ROWS` blocks, the newest first: those with lower IDs than `below`, if that is given.

        `total` counts all, `older` is the ID below which the next page begins, `cards` are those that blocked machines
        are bound to, each after the SHA-256 of its machine's hardware, `hits` as `hits`: both of a program's cards,
        None for all.
        """
        query = Block.select().order_by(Block.id.desc()).limit(PAGE_ROWS + 1)
        rows = list(query if below is None else query.where(Block.id < below))
        machines = [block.hardware_sha256 for block in rows if block.hardware_sha256 is not None]
        is_bound = Client.hardware_sha256.in_(machines) & of_program(Client.card, program)
        bound = Client.select(Client.hardware_sha256, Client.card).where(is_bound).order_by(Client.program)
        return {
            "rows": rows[:PAGE_ROWS],
            "total": Block.select().count(),
            "older": rows[PAGE_ROWS - 1].id if len(rows) > PAGE_ROWS else None,
            "hits": self.hits(program),
            "cards": list(bound.tuples()),
        }

    def hits(self, program: str | None = None) -> dict[int, int]:
        """Return how many of the journal's entries of `HITS_PERIOD` name each block, by ID; 0 is left out.

        They are those of a program's cards, None for all.
        """
        values = {"code": Code.CLIENT_BLOCKED, "since": self.clock() - HITS_PERIOD, "program": program}
        return dict(self.database.execute_sql(_HITS, values).fetchall())

    def find(self, block_id: int) -> Block:
        """Return a block, or raise BlockNotFoundError."""
        found: Block | None = Block.get_or_none(Block.id == block_id)
        if found is None:
            raise BlockNotFoundError(block_id)
        return found

    def machine(self, hardware: str) -> Block:
        """Return the block, not yet added, of the machine of a hardware string; refuse what no client can send."""
        if not 1 <= len(hardware) <= MAX_HARDWARE or "\0" in hardware:
            raise RefusedError(
                f"硬件信息须为 1 到 {MAX_HARDWARE:,} 个字符", f"hardware must be 1 to {MAX_HARDWARE:,} characters"
            )
        try:
            return Block(hardware_sha256=hashlib.sha256(hardware.encode()).hexdigest())
        except UnicodeEncodeError as error:
            raise RefusedError("硬件信息不是有效的 UTF-8", "hardware is not valid UTF-8") from error

    def network(self, text: str) -> Block:
        """Return the block of a network, or of what counts as one address, as a person typed it."""
        return Block(network=read_block_network(text.strip()))

    def machine_of(self, reference: str) -> Block:
        """Return the block of the machine in the journal's entry of this reference, as typed; refuse any other text."""
        wanted = parse_card_id_beginning(reference) or reference
        digest = journal.hardware_sha256_of(wanted)
        if digest is None:
            raise RefusedError(
                f"日志中没有参考号“{reference}”的设备", f"the journal has no machine under the reference “{reference}”"
            )
        return Block(hardware_sha256=digest, reference=wanted)

    def add(self, block: Block, reason: str) -> int:
        """Add a block; return its ID, or raise RefusedError, CeilingExceededError if `limits` allow no more today."""
        check_text("reason", reason)
        now = self.clock()
        try:
            with self.database.transact():
                if Block.select().count() >= MAX_BLOCKS:
                    raise RefusedError(f"黑名单最多 {MAX_BLOCKS:,} 项", f"there can be at most {MAX_BLOCKS:,} blocks")
                self.take_changes(1, now)
                block.reason, block.actor, block.created_at = reason, self.actor, now
                block.save()
                self._journal(EventKind.BLOCK_ADDED, block, now)
                return int(block.id)
        except IntegrityError as error:
            if not isinstance(getattr(error, "orig", None), UniqueViolation):
                raise
            raise RefusedError("黑名单中已有此项", "this is blocked already") from error

    def remove(self, block_id: int) -> None:
        """Remove a block, or raise BlockNotFoundError, or CeilingExceededError if `limits` allow no more today."""
        now = self.clock()

        with self.database.transact():
            block = self.find(block_id)
            if not block.delete_instance():  # somebody else was first
                raise BlockNotFoundError(block_id)
            self.take_changes(1, now)
            self._journal(EventKind.BLOCK_REMOVED, block, now)

    def _journal(self, kind: EventKind, block: Block, now: datetime) -> None:
        what = {"network": block.network} if block.network else {"hardware_sha256": block.hardware_sha256}
        details = {"block": block.id, **what, "reason": block.reason}
        journal.append([journal.Entry(now, kind, reference=block.reference, actor=self.actor, details=details)])
