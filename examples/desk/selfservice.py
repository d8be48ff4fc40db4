"""Renewing and unbinding by the customer, each after a confirmation. The server's answers decide nothing here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadun import KadunError, ServerUnreachable, UntrustedAnswer

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

    def wants_to_unbind(self) -> bool:
        """Ask the customer before the card is unbound."""
        return self._console.confirmed("unbind_sure")

    def unbind(self, client: Client) -> bool | None:
        """Release the card from its machine. Return whether the server did; None if its answer was lost."""
        try:
            client.unbind()
        except KadunError as failure:
            self._console.complain("failed", failure.message)
            return None if _lost(failure) else False
        return True


def _lost(failure: KadunError) -> bool:
    """Return whether the server may have carried out the request: there is no answer, or none that can be trusted."""
    return isinstance(failure, UntrustedAnswer) or (isinstance(failure, ServerUnreachable) and failure.sent)
