from collections.abc import Callable
from pathlib import Path

import pytest
from kadun import Client
from kadun.retries import RetryPolicy

from tests.support.client import fakes
from tests.support.client.fakes import CARD, HARDWARE, NOW, FakeServer, Machine, MakeClient, Rotations, SigningKey


@pytest.fixture(autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The platform's folder for state, a new one for each test and the programs that it starts; and no proxy."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
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
            "public_keys": fakes.pinned(signing_key),
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "here"


@pytest.fixture
def start(make_client: Callable[..., Client], folder: Path) -> Callable[..., Client]:
    """Make a client that stores its state in `folder`, as each new start of the program does."""
    return lambda **changes: make_client(**{"state_dir": folder, "clock": lambda: NOW, **changes})


@pytest.fixture
def machine(make_client: MakeClient, server: FakeServer, folder: Path) -> Machine:
    """A machine for whose card the server allows offline starts."""
    server.tweak = fakes.at(NOW)
    return Machine(make_client, server, folder)


@pytest.fixture
def rotations(make_client: MakeClient, server: FakeServer, folder: Path) -> Rotations:
    return Rotations(make_client, server, folder)
