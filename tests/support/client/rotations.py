"""A vendor's signing keys over several rotations, a customer's machine, and a thief who has one of the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kadun import UntrustedAnswer

from tests.support.client.customer_machine import Machine
from tests.support.client.fake_server import HARDWARE, ISSUER, SigningKey, pinned

if TYPE_CHECKING:
    from pathlib import Path

    from kadun import Client
    from kadun.keys import Floor
    from kadun.store import State

    from tests.support.client.fake_server import FakeServer
    from tests.support.client.offline import MakeClient

MINUTE = 60
OTHER_CARD = "F" * 32
REPLACED, UNKNOWN = "a later key has replaced", "neither pinned nor endorsed"


class Rotations(Machine):
    """The vendor's keys, oldest first, and a server that signs with the one before the last: the last is the next.

    The machine has the program's first release.
    """

    def __init__(self, make_client: MakeClient, server: FakeServer, folder: Path) -> None:
        super().__init__(make_client, server, folder)
        self.keys = [server.key, SigningKey()]
        self.publish(server.key)
        self._first_release = self.release

    @property
    def release(self) -> dict[str, Any]:
        """What a release of this moment pins: the current key and the next."""
        return pinned(*self.keys[-2:])

    def rotate(self, times: int = 1) -> None:
        for _ in range(times):
            self.keys.append(SigningKey())
        self.publish(self.keys[-2])

    def publish(self, current: SigningKey) -> None:
        self.server.key = current
        self.server.endorsements = [
            old.endorse(new.jwk, iss=ISSUER) for old, new in zip(self.keys, self.keys[1:], strict=False)
        ]

    def forge(self, stolen: SigningKey, *, successor: SigningKey | None = None) -> None:
        """Serve the thief's verdicts: by the stolen key, or by a key that it endorses."""
        self.server.key = successor or stolen
        self.server.endorsements = [stolen.endorse(successor.jwk, iss=ISSUER)] if successor else []

    def run(self, **changes: Any) -> Client:
        return super().run(**{"public_keys": self._first_release, **changes})

    def accepts(self, client: Client | None = None) -> bool:
        """Open the program, which must believe the answer."""
        return (client or self.run()).open().accepted

    def refuses(self, why: str, client: Client | None = None) -> None:
        """Open the program, which must not believe the answer."""
        with pytest.raises(UntrustedAnswer, match=why):
            (client or self.run()).open()

    @property
    def stored(self) -> State:
        """The file of the keys and the floor."""
        return self.keys_file.load(HARDWARE)

    @stored.setter
    def stored(self, state: State) -> None:
        self.keys_file.save(state, HARDWARE)

    @property
    def stored_floor(self) -> Floor:
        assert self.stored.floor is not None
        return self.stored.floor
