"""A vendor's chain of signing keys over several rotations, and a thief who has one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kadun import UntrustedAnswer

from tests.support.client.fake_server import ISSUER, FakeServer, SigningKey, pinned

if TYPE_CHECKING:
    from kadun import Client

OTHER_CARD = "F" * 32
REPLACED, UNKNOWN = "a later key has replaced", "neither pinned nor endorsed"


class Chain:
    """The vendor's keys, oldest first, and a server that signs with the one before the last: the last is the next."""

    def __init__(self, server: FakeServer, first: SigningKey) -> None:
        self.server = server
        self.keys = [first, SigningKey()]
        self.publish(first)

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


def refused(client: Client, why: str) -> None:
    """Open the program, which must refuse the answer."""
    with pytest.raises(UntrustedAnswer, match=why):
        client.open()
