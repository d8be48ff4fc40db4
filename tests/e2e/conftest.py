"""The service and nginx before it, shared by the tests: each issues cards of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.nginx import Gateway
from tests.support.socket_service import SocketService
from trial.postgres import EmbeddedPostgres

GatewayMaker = Callable[..., Gateway]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres) -> Iterator[SocketService]:
    postgres.create_database("behind_nginx")  # its own, which no other test empties
    running = SocketService(tmp_path_factory.mktemp("service"), postgres.url("behind_nginx"))
    running.cardctl("migrate")
    with running:
        yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, service: SocketService) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("nginx"), service.socket) as running:
        yield running


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[GatewayMaker]:
    """Starts an nginx with settings of a test's own; without a socket there is no service behind it."""
    running: list[Gateway] = []

    def make(
        socket: Path = tmp_path / "nobody.sock", *, believe_test_address: bool = False, **settings: str
    ) -> Gateway:
        gateway = Gateway(
            tmp_path / f"nginx-{len(running)}", socket, believe_test_address=believe_test_address, **settings
        )
        running.append(gateway)
        return gateway.__enter__()

    yield make
    for gateway in running:
        gateway.__exit__()
