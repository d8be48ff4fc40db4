"""The block list's rows."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from peewee import fn

from app.domain import blocks
from app.domain.codes import Code
from app.storage.models import Block, Client, database

_HITS = """
SELECT (details ->> 'block')::bigint, count(*) FROM event
WHERE COALESCE(code, kind) = %(code)s AND at >= %(since)s GROUP BY 1
"""


def in_force() -> list[blocks.Block]:
    """Return all blocks, as requests are compared with them."""
    columns = (Block.id, Block.hardware_sha256, Block.network)
    return [blocks.Block(*row) for row in Block.select(*columns).tuples()]


def mark() -> tuple[int, int]:
    """Return what differs whenever blocks were added or removed: their number and the sum of their IDs.

    Not the highest ID: a block may become visible after one with a higher ID.
    """
    number, ids = Block.select(fn.COUNT(Block.id), fn.COALESCE(fn.SUM(Block.id), 0)).tuples().first()
    return number, int(ids)


def listed(limit: int | None = None, below: int | None = None) -> list[Block]:
    """Return the blocks, the newest first: up to `limit` of them, those with lower IDs than `below`."""
    found = Block.select().order_by(Block.id.desc()).limit(limit)
    return list(found if below is None else found.where(Block.id < below))


def cards_of(hardware_sha256s: Iterable[str]) -> dict[str, str]:
    """Return the cards that these machines are bound to, by the SHA-256 of their hardware."""
    wanted = Client.hardware_sha256.in_(list(hardware_sha256s))
    return dict(Client.select(Client.hardware_sha256, Client.card).where(wanted).tuples())


def number() -> int:
    """Return how many blocks there are."""
    return int(Block.select().count())


def find(block_id: int) -> Block | None:
    """Return a block, None where there is none."""
    found: Block | None = Block.get_or_none(Block.id == block_id)
    return found


def insert(values: Mapping[str, Any]) -> int:
    """Add a block, given by the names of its columns; return its ID.

    Raises:
        peewee.IntegrityError: the same is blocked already.
    """
    return int(Block.insert(**values).execute())


def delete(block_id: int) -> bool:
    """Remove a block; return whether it was there."""
    return bool(Block.delete().where(Block.id == block_id).execute())


def hits(since: datetime) -> dict[int, int]:
    """Return how many of the journal's entries since then name each block, by the IDs of those that any names."""
    return dict(database.execute_sql(_HITS, {"code": Code.CLIENT_BLOCKED, "since": since}).fetchall())
