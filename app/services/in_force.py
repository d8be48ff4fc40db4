"""The vendor's terms and block list, as each process knows them (protocol, section 2: in force within two seconds)."""

from typing import NamedTuple

from app.domain.blocks import BlockList
from app.domain.terms import Terms
from app.domain.texts import RefusedError
from app.services.polled import Polled
from app.storage import blocks, terms
from app.storage.database import Database


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
        """Refuse a request from a blocked address, where there is no verdict to say so.

        Raises:
            ClientBlockedError: the address is blocked.
        """
        if self.blocks.find_address(address) is not None:
            raise ClientBlockedError


class VendorRules:
    """What is in force, read again twice a second."""

    def __init__(self, database: Database) -> None:
        self._blocks: tuple[tuple[int, int], BlockList] = ((0, 0), BlockList())
        self._polled = Polled(database, self._read)

    def get(self) -> InForce:
        """Return what is in force.

        Raises:
            DatabaseUnavailableError: the database was away since this process began.
        """
        return self._polled.get()

    def renew(self) -> None:
        """Read now what is in force, after this process has changed it.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        self._polled.renew()

    def _read(self) -> InForce:
        """Read the terms, and the blocks where they have changed."""
        mark, listed = self._blocks
        if (now := blocks.mark()) != mark:
            listed = BlockList(blocks.in_force())
            self._blocks = now, listed
        revision, found = terms.read()
        return InForce(found, revision, listed)
