"""A real PostgreSQL for every test that asks for one; each test finds the tables empty."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from app.storage import schema
from app.storage.database import Database, connect_to
from app.storage.statements import PREPARED
from trial.postgres import EmbeddedPostgres, install_binaries

ROOT = Path(__file__).resolve().parent.parent
START = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)

# How long an example takes says how busy the machine is; fixtures that examples share are meant so.
_SUPPRESSED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("kadun", deadline=None, suppress_health_check=_SUPPRESSED)
settings.load_profile("kadun")

# Files that take a process longest: they begin first, or one of them is left for the end, alone.
LONGEST_FIRST = (
    *("test_restore", "test_provision", "test_backup", "test_doctor", "test_upgrade", "test_carry_over", "test_moving"),
    *("test_trial", "test_packaged_example", "test_client_install", "test_javascript_client"),
    *(
        "test_openapi",
        "test_execute",
        "test_file_commands",
        "test_functions_service",
        "test_races",
        "test_client_offline",
    ),
    *("test_cardctl", "test_console_operators", "test_faults", "test_console_odd_input", "test_stateful"),
    *(
        "test_changed_tokens",
        "test_conformance_kit",
        "test_client_package",
        "test_client_seal",
        "test_client_heartbeat",
    ),
)

# A shell's background jobs ignore Ctrl-C, and what they start inherits that. Tests interrupt programs all the same.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))  # stable: within a file nothing moves


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        self.now += by


@pytest.fixture(scope="session")
def postgres_binaries() -> Path:
    # PostgreSQL runs as an unprivileged user where we are root, so root's own home will not do.
    base = Path("/var/lib/kadun-tests") if os.getuid() == 0 else ROOT / ".trial"
    install_binaries(base / "postgresql")
    return base / "postgresql"


@pytest.fixture(scope="session")
def cluster_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kadun-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(postgres_binaries: Path, cluster_folder: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(postgres_binaries, cluster_folder / "cluster", settings={"fsync": "off"}) as running:
        yield running


@pytest.fixture(scope="session")
def migrated_url(postgres: EmbeddedPostgres) -> str:
    url = postgres.url()
    owner = Database(url, bulk=True)
    connect_to(owner)
    schema.migrate(owner, lambda _line: None)
    owner.close()
    return url


@pytest.fixture
def database_url(migrated_url: str) -> str:
    """The URL of a database with the current schema and no rows."""
    owner = Database(migrated_url, bulk=True)
    owner.connect()
    # The journal refuses to be emptied, except by a superuser who switches its triggers off.
    owner.execute_sql("SET session_replication_role = replica")
    tables = [f'"{table}"' for table in owner.get_tables() if table != "schema_migration"]
    asked = " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT FROM {table})" for table in tables)  # noqa: S608  # names
    used = [table for (table,) in owner.execute_sql(asked).fetchall()]
    if used:  # emptying all of them takes longer than many a test
        owner.execute_sql(f"TRUNCATE {', '.join(used)} RESTART IDENTITY CASCADE")
    owner.close()
    return migrated_url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    connected = connect_to(Database(database_url, prepared=PREPARED, on_connect=schema.check_version))
    connected.connect()
    yield connected
    connected.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()
