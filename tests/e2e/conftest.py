"""The service and nginx before it, shared by the tests: each issues cards of its own."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.services.nginx import ConsoleStandIn, Gateway
from tests.support.services.relays import NameServer
from tests.support.services.socket_service import SocketService
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
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleStandIn]:
    with ConsoleStandIn(tmp_path_factory.mktemp("backend") / "backend.sock") as running:
        yield running


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory, backend: ConsoleStandIn) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("nginx"), backend.path) as running:
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
def nginx_settings(bucket_settings: dict[str, str], names: NameServer) -> dict[str, str]:
    return bucket_settings | {"KADUN_RESOLVER": names.address}


@pytest.fixture(scope="session")
def bucket_gateways(
    tmp_path_factory: pytest.TempPathFactory, replicas: list[SocketService], nginx_settings: dict[str, str]
) -> Iterator[list[Gateway]]:
    made = [Gateway(tmp_path_factory.mktemp("nginx"), one.socket, **nginx_settings) for one in replicas]
    with made[0], made[1]:
        yield made


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[GatewayMaker]:
    """Starts an nginx with settings of a test's own; without a socket there is no service behind it."""
    with ExitStack() as running:
        numbers = itertools.count()

        def make(
            socket: Path = tmp_path / "nobody.sock", *, believe_test_address: bool = False, **settings: str
        ) -> Gateway:
            folder = tmp_path / f"nginx-{next(numbers)}"
            return running.enter_context(Gateway(folder, socket, believe_test_address=believe_test_address, **settings))

        yield make
