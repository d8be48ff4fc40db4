"""Offline starts in tests: a server with a vendor's grace period, and ways to disconnect it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kadun import Client, KadunError, ServerUnreachable
from kadun.responses import Response

from tests.support.client.fake_server import NOW, OPEN, FakeServer, Tweak

DAY = 86_400
GRACE = 7 * DAY
YEAR_1970, YEAR_2100 = 0.0, 4_102_444_800.0
CORE = "汇率表".encode()
MakeClient = Callable[..., Client]


def at(now: int) -> Tweak:
    """The genuine server at this time: the card is valid for a month, and offline starts are allowed for a week."""

    def tweak(claims: dict[str, Any]) -> None:
        claims.update(iat=now, exp=now + 300, card_expires_at=NOW + 30 * DAY)
        if claims["function"] == OPEN:
            claims["offline_until"] = now + GRACE

    return tweak


def no_network(_request: dict[str, Any]) -> ServerUnreachable:
    return ServerUnreachable("no route")


def unplug(server: FakeServer, answer: Any = no_network) -> None:
    """From now on every request gets this answer."""
    server.script = [answer] * 10_000
    server.key_set = answer if isinstance(answer, Response) else None


def plug_in(server: FakeServer) -> None:
    server.script = []
    server.key_set = None


def refused(client: Client, error: type[KadunError] = ServerUnreachable) -> KadunError:
    with pytest.raises(error) as caught:
        client.open()
    return caught.value
