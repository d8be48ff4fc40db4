"""The service and nginx before it, shared by the tests: each issues cards of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.bucket_host import NameServer
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


@pytest.fixture(scope="session")
def replicas(
    tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres, bucket_settings: dict[str, str]
) -> Iterator[list[SocketService]]:
    """Two replicas with a bucket: one database, one key ring, a folder of their own each."""
    postgres.create_database("with_bucket")
    url = postgres.url("with_bucket")
    running = [SocketService(tmp_path_factory.mktemp(name), url, **bucket_settings) for name in ("a", "b")]
    running[1].environment["KADUN_KEYS_DIR"] = running[0].environment["KADUN_KEYS_DIR"]
    running[0].cardctl("migrate")
    with running[0], running[1]:
        yield running


@pytest.fixture(scope="session")
def bucket_gateways(
    tmp_path_factory: pytest.TempPathFactory,
    replicas: list[SocketService],
    bucket_settings: dict[str, str],
    names: NameServer,
) -> Iterator[list[Gateway]]:
    """nginx before each of the replicas."""
    made = [
        Gateway(tmp_path_factory.mktemp("nginx"), one.socket, KADUN_RESOLVER=names.address, **bucket_settings)
        for one in replicas
    ]
    with made[0], made[1]:
        yield made


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
