from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kadun import Client
from kadun.retries import RetryPolicy

from tests.support.client.fake_server import CARD, HARDWARE, FakeServer, SigningKey, pinned

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The platform's folder for state, a new one for each test and the programs that it starts."""
    folder = tmp_path_factory.mktemp("state-home")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def signing_key() -> SigningKey:
    return SigningKey()


@pytest.fixture
def server(signing_key: SigningKey) -> FakeServer:
    return FakeServer(signing_key)


@pytest.fixture
def pauses() -> list[float]:
    """The seconds that a client waited between its tries."""
    return []


@pytest.fixture
def make_client(signing_key: SigningKey, server: FakeServer, pauses: list[float]) -> Callable[..., Client]:
    def make(**changes: object) -> Client:
        settings: dict[str, object] = {
            "public_keys": pinned(signing_key),
            "card_id": CARD,
            "hardware": HARDWARE,
            "transport": server,
            "retry_policy": RetryPolicy(sleep=pauses.append),
        }
        return Client("http://card.invalid", **{**settings, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    return make_client()
