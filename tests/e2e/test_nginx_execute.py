"""Core functions behind nginx: every verdict of the app passes, and long calls are waited for."""

from collections.abc import Iterator

import pytest
from kadun import Client, FunctionFailed, FunctionNotFound, FunctionTimeout

from tests.support.executing import FUNCTION_SECONDS
from tests.support.functions_service import FunctionsService
from tests.support.nginx import Gateway
from tests.support.socket_service import SocketService


@pytest.fixture(scope="module")
def functions(service: SocketService) -> Iterator[FunctionsService]:
    with FunctionsService(service.folder, KADUN_FUNCTION_SECONDS=str(FUNCTION_SECONDS)).with_shop() as running:
        yield running


@pytest.fixture
def client(gateway: Gateway, service: SocketService, functions: FunctionsService) -> Client:
    return Client(
        f"https://localhost:{gateway.https_port}",
        service.cardctl("key", "export").stdout,
        card := service.new_card(),
        hardware=f"pc of {card}",
        ca_file=gateway.certificates / "fullchain.pem",
        state_dir=None,
        timeout_seconds=30,
    )


def test_a_function_runs_behind_nginx(client: Client) -> None:
    assert client.execute("求和", {"a": "卡", "b": "盾"}) == {"sum": "卡盾"}


@pytest.mark.parametrize(
    ("function", "error"), [("没有的", FunctionNotFound), ("退出", FunctionFailed), ("死循环", FunctionTimeout)]
)
def test_verdicts_with_status_404_502_and_504_pass(client: Client, function: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        client.execute(function, {})


def test_the_largest_result_passes(client: Client) -> None:
    length = 256 * 1024 - 2
    assert len(client.execute("多大", {"length": length, "of": "x"})) == length
