"""The vendor's terms and block list, as each process knows them, in force within two seconds."""

from typing import NamedTuple

from peewee import fn

from app.domain.licence.blocks import BlockList
from app.domain.licence.terms import Terms
from app.domain.texts import RefusedError
from app.services.licence.terms import VendorTerms
from app.services.polled import Polled
from app.storage.database import Database
from app.storage.models import Block


class ClientBlockedError(RefusedError):
    """The address is on the vendor's block list."""

    def __init__(self) -> None:
        super().__init__("网络在黑名单中", "the network is on the block list")


class InForce(NamedTuple):
    """What requests are judged by: the terms, how often they were changed, and the blocks."""

    terms: Terms = Terms()
    revision: int = 0
    blocks: BlockList = BlockList()

    def refuse_blocked(self, address: str) -> None:
        """Raise ClientBlockedError for a request from a blocked address, where there is no verdict to say so."""
        if self.blocks.find_address(address) is not None:
            raise ClientBlockedError


class VendorRules(Polled[InForce]):
    """What is in force, read again twice a second."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, self._terms_and_blocks)
        self._blocks: tuple[tuple[int, int], BlockList] = ((0, 0), BlockList())

    def _terms_and_blocks(self) -> InForce:
        # What differs whenever blocks were added or removed. Not the highest ID: a block may become visible after one
        # with a higher ID.
        mark = Block.select(fn.COUNT(Block.id), fn.COALESCE(fn.SUM(Block.id), 0)).tuples().first()
        known, listed = self._blocks
        if mark != known:
            listed = BlockList(Block.select(Block.id, Block.hardware_sha256, Block.network).tuples())
            self._blocks = mark, listed
        revision, terms = VendorTerms.read()
        return InForce(terms, revision, listed)
