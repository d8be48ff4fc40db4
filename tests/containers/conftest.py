"""What the stacks of all groups share, and the stack of the group `serving`, whose tests put back what they change."""

import ssl
from collections.abc import Iterator
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import pytest

from tests.support.hosts.backups import Backups
from tests.support.hosts.network import Namespace
from tests.support.hosts.servers import (
    Program,
    ship,
    vendor,  # noqa: F401  # the fixture of the other groups
)
from tests.support.hosts.stack import Stack, build_image
from tests.support.services.http_exchange import exchange

FUNCTIONS = Path(__file__).with_name("vendor_functions.py")
# Its tests' customers come from one address.
SETTINGS = "KADUN_FUNCTION_SECONDS=20\nKADUN_RATE=9000\nKADUN_BURST=9000\n"


@pytest.fixture(scope="session")
def app_image() -> str:
    """The ID of this checkout's image, for `Stack(folder, app_image)`."""
    return build_image()


@pytest.fixture(scope="session")
def network() -> Iterator[Namespace]:
    namespace = Namespace()
    try:
        yield namespace.__enter__()
    finally:
        namespace.__exit__()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, network: Namespace, app_image: str) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("serving") / "a vendor's 100% stack"
    with Stack(folder, app_image) as stack:
        stack.init_anew("kadun.test", network.host_ipv4, network.host_ipv6)
        with (stack.folder / ".env").open("a") as settings:
            settings.write(SETTINGS)
        (stack.folder / "data/functions/vendor.py").write_text(FUNCTIONS.read_text())
        stack.up()
        yield stack


@pytest.fixture(scope="session")
def settings(stack: Stack) -> str:
    return (stack.folder / ".env").read_text()


@pytest.fixture(scope="session")
def program(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A program of the vendor's, shipped from the stack, and its customer's machine."""
    program = ship(stack, tmp_path_factory.mktemp("program"), "the customer's pc")
    program.open_on(stack)
    return program


@pytest.fixture
def backups(stack: Stack) -> Backups:
    """The backup scripts of the stack that serves, with one good backup to lose."""
    backups = Backups(stack)
    if not (backups.folder / "last-good").exists():
        backups.take()
    return backups


@pytest.fixture(autouse=True)
def _stack_is_as_it_was(request: pytest.FixtureRequest) -> None:
    """Check that the test before put back what it changed; what it did not is put back for the tests to come."""
    if "stack" not in request.fixturenames:
        return
    stack, settings = request.getfixturevalue("stack"), request.getfixturevalue("settings")
    dotenv = stack.folder / ".env"
    left = [
        name
        for name, is_right in ((".env", dotenv.read_text() == settings), ("/readyz", is_ready(stack)))
        if not is_right
    ]
    if left:
        dotenv.write_text(settings)
        stack.up()
    assert left == [], "a test before this one did not put these back"


def is_ready(stack: Stack) -> bool:
    """Whether it says so, by whatever certificate."""
    trusting = ssl._create_unverified_context()  # noqa: S323, SLF001
    connection = HTTPSConnection("localhost", stack.https_port, timeout=60, context=trusting)
    try:
        return exchange(connection, "GET", "/readyz", None, {}).status == 200
    except (OSError, HTTPException):
        return False
