"""The vendor's programs, their terms, and the block list, as each process knows them, in force within two seconds."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from peewee import fn

from app.domain.licence.blocks import BlockList
from app.domain.licence.terms import Terms
from app.domain.programs import MAIN
from app.domain.texts import RefusedError
from app.services.licence.terms import terms_of
from app.services.polled import Polled
from app.storage.database import Database
from app.storage.models import Block, Program


class ClientBlockedError(RefusedError):
    """The address is on the vendor's block list."""

    def __init__(self) -> None:
        super().__init__("网络在黑名单中", "the network is on the block list")


class UnknownProgramError(RefusedError):
    """The vendor has no such program."""

    def __init__(self) -> None:
        super().__init__("program 必须是服务器上的程序 ID", "program must be the ID of one of the server's programs")


class ProgramRules(NamedTuple):
    """A program's terms, how often they were changed, and its sealed data key, None for `main`."""

    terms: Terms = Terms()
    revision: int = 0
    data_key: str | None = None


class CurrentRules(NamedTuple):
    """What requests are judged by: the programs by their IDs, and the blocks."""

    programs: Mapping[str, ProgramRules] = MappingProxyType({MAIN: ProgramRules()})
    blocks: BlockList = BlockList()

    def of(self, program: str) -> ProgramRules:
        """Return what a program has in force, or raise UnknownProgramError."""
        try:
            return self.programs[program]
        except KeyError as error:
            raise UnknownProgramError from error

    def refuse_blocked(self, address: str) -> None:
        """Raise ClientBlockedError for a request from a blocked address, where there is no verdict to say so."""
        if self.blocks.find_address(address) is not None:
            raise ClientBlockedError


class VendorRules(Polled[CurrentRules]):
    """What is in force, read again twice a second."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, self._programs_and_blocks)
        self._blocks: tuple[tuple[int, int], BlockList] = ((0, 0), BlockList())

    def _programs_and_blocks(self) -> CurrentRules:
        # What differs whenever blocks were added or removed. Not the highest ID: a block may become visible after one
        # with a higher ID.
        mark = Block.select(fn.COUNT(Block.id), fn.COALESCE(fn.SUM(Block.id), 0)).tuples().first()
        known, listed = self._blocks
        if mark != known:
            listed = BlockList(Block.select(Block.id, Block.hardware_sha256, Block.network).tuples())
            self._blocks = mark, listed
        rows = Program.select()
        return CurrentRules({row.id: ProgramRules(terms_of(row), row.revision, row.data_key) for row in rows}, listed)
