"""Renewing and unbinding by the customer, each after a confirmation. The server's answers decide nothing here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadun import KadunError, ServerUnreachable

if TYPE_CHECKING:
    from console import Console
    from kadun import Client


class SelfService:
    """Asks the customer, then the server."""

    def __init__(self, console: Console) -> None:
        """Set the console."""
        self._console = console

    def renew(self, client: Client) -> bool:
        """Use up another card. Return whether the card may have been renewed: the next verdict tells."""
        other = self._console.ask("renew_with")
        if not other or not self._console.confirmed("renew_sure", card=other):
            return False
        try:
            client.renew(other)
        except KadunError as failure:
            self._console.complain("failed", failure.message)
            return isinstance(failure, ServerUnreachable) and failure.sent
        return True

    def unbind(self, client: Client) -> bool:
        """Release the card from its machine. Return whether the server says that it did."""
        if not self._console.confirmed("unbind_sure"):
            return False
        try:
            client.unbind()
        except KadunError as failure:
            self._console.complain("failed", failure.message)
            return False
        return True
