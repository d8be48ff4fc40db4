"""A real PostgreSQL for each process of tests; each test that uses it finds the tables empty."""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import peewee
import psycopg2
import pytest
from coverage import Coverage
from hypothesis import HealthCheck, settings
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import cursor as Cursor  # noqa: N812  # a class, whatever its name
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from app.storage import models, schema
from app.storage.database import Database, connect_to
from app.storage.statements import PREPARED
from tests.support.hosts.prepared_cluster import copy_to
from tests.support.licence.in_force import wait_in_force
from trial.postgres import EmbeddedPostgres, install_binaries

pytest_plugins = ["tests.support.services.bucket"]

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE_URL = "TESTS_TEMPLATE_URL"
"""The environment variable with the URL of a migrated database; tests/mutation sets it, since a cluster takes long."""
START = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)

# No deadlines: an example takes as long as the machine is busy. Examples share fixtures on purpose.
_SUPPRESSED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
HYPOTHESIS = "KADUN_HYPOTHESIS"
"""The environment variable with the profile; scripts/test.sh --nightly chooses `thorough`."""
settings.register_profile("quick", deadline=None, suppress_health_check=_SUPPRESSED, max_examples=25)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=400)
settings.load_profile(os.environ.get(HYPOTHESIS, "quick"))

# A shell's background jobs ignore Ctrl-C, and what they start inherits that. Tests interrupt programs all the same.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what has a marker, or has none
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that are marked `long`, or one of them is left for the end, alone.

    With more examples, each of Hypothesis's tests is a nightly one.
    """
    if os.environ.get(HYPOTHESIS) == "thorough":
        for item in items:
            if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
                item.add_marker(pytest.mark.nightly)
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


class ByGroup(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Keep together the files that name the same `xdist_group`, and otherwise each file's tests.

    xdist's own way is to add the group to a test's ID, in an attribute that pytest 9.2 no longer reads: each test then
    goes to any process.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _group_of(nodeid.partition("::")[0])


@cache
def _group_of(file: str) -> str:
    named = re.search(r'^pytestmark = .*xdist_group\("([^"]+)"\)', (ROOT / file).read_text(), re.MULTILINE)
    return named[1] if named else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByGroup | None:
    return ByGroup(config, log) if config.getvalue("dist") == "loadgroup" else None


class Clock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        self.now += by


def postgres_binaries_folder() -> Path:
    # PostgreSQL runs as an unprivileged user where we are root, so root's own home will not do.
    base = Path("/var/lib/kadun-tests") if os.getuid() == 0 else ROOT / ".trial"
    return base / "postgresql"


@pytest.fixture(scope="session")
def postgres_binaries() -> Path:
    folder = postgres_binaries_folder()
    folder.parent.mkdir(exist_ok=True)
    with folder.with_name(".postgresql.lock").open("w") as lock:  # several processes may ask at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        install_binaries(folder)
    return folder


@pytest.fixture(scope="session")
def cluster_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kadun-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(postgres_binaries: Path, cluster_folder: Path) -> Iterator[EmbeddedPostgres]:
    """This process's server, which need not survive a crash of the machine; its database `kadun` is a template."""
    copy_to(cluster_folder / "cluster", postgres_binaries)
    settings = dict.fromkeys(("fsync", "full_page_writes"), "off")
    with EmbeddedPostgres(postgres_binaries, cluster_folder / "cluster", settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
def migrated_url(request: pytest.FixtureRequest) -> str:
    return _new_database(request, "copy")


def _new_database(request: pytest.FixtureRequest, name: str) -> str:
    if TEMPLATE_URL in os.environ:
        return _copy_of(os.environ[TEMPLATE_URL], f"{name}_{os.getpid()}")
    postgres: EmbeddedPostgres = request.getfixturevalue("postgres")
    return _copy_of(postgres.url(), name)


def _copy_of(template_url: str, name: str) -> str:
    """Copy a database for this process; the copy goes with its cluster."""
    server, _, template = template_url.rpartition("/")
    with contextlib.closing(psycopg2.connect(f"{server}/postgres")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return f"{server}/{name}"


# Deleting a few rows takes a twentieth of the time of TRUNCATE. The locks wait, as TRUNCATE's do, for transactions that
# the test before left open.
_EMPTY = """
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT oid::regclass AS name, pg_relation_size(oid) > 1000000 AS is_large FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname NOT LIKE 'schema_%'
        ORDER BY oid  -- as most of the service's background work does, so that both seldom wait for each other
    LOOP
        EXECUTE format('LOCK TABLE %s', found.name);
        EXECUTE format(CASE WHEN found.is_large THEN 'TRUNCATE %s CASCADE' ELSE 'DELETE FROM %s' END, found.name);
    END LOOP;
    INSERT INTO program (id, name, created_at) VALUES ('main', 'main', now());
    PERFORM setval(oid::regclass, 1, false) FROM pg_class
    WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace AND relname <> 'schema_migration_id_seq';
END $$
"""


def _empty(cursor: Cursor) -> None:
    while True:
        with contextlib.suppress(psycopg2.errors.DeadlockDetected):  # the service's background work came in between
            cursor.execute(_EMPTY)
            return


@pytest.fixture(scope="session")
def _superuser(migrated_url: str) -> Iterator[Cursor]:
    with _superuser_of(migrated_url) as cursor:
        yield cursor


@contextlib.contextmanager
def _superuser_of(url: str) -> Iterator[Cursor]:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            # The journal refuses to be emptied, except by a superuser who switches its triggers off.
            cursor.execute("SET session_replication_role = replica")
            yield cursor


_CHANGED_TERMS = """
SELECT EXISTS (SELECT FROM program WHERE revision > 0 OR id <> 'main') OR EXISTS (SELECT FROM block)
    OR EXISTS (SELECT FROM event WHERE kind IN ('terms_changed', 'block_added', 'block_removed'))
"""


class Remembered:
    """Whether services that outlive a test may still judge by the terms and blocks that it left."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self.changed = False

    def wait_until_forgotten(self) -> None:
        """Wait until every process has noticed that they are gone."""
        if self.changed:
            wait_in_force(self._cursor.execute)
        self.changed = False


@pytest.fixture(scope="session")
def remembered(_superuser: Cursor) -> Remembered:
    return Remembered(_superuser)


@pytest.fixture(scope="session")
def emptied(migrated_url: str, _superuser: Cursor, remembered: Remembered) -> Callable[[], str]:
    """Empties the tables, and returns their URL: a service that several tests share must not begin with what the test
    before has left, such as keys that have moved."""

    def empty() -> str:
        _superuser.execute(_CHANGED_TERMS)
        (changed_terms,) = _superuser.fetchone() or (False,)
        _empty(_superuser)
        remembered.changed |= changed_terms
        return migrated_url

    return empty


@pytest.fixture
def database_url(request: pytest.FixtureRequest, emptied: Callable[[], str]) -> str:
    """Return the URL of a database with the current schema and no rows."""
    if request.node.get_closest_marker("apart"):
        apart: str = request.getfixturevalue("apart_url")
        return apart
    return emptied()


@pytest.fixture(scope="session")
def _apart(request: pytest.FixtureRequest) -> Iterator[tuple[str, Cursor]]:
    url = _new_database(request, "apart")
    with _superuser_of(url) as cursor:
        yield url, cursor


@pytest.fixture
def apart_url(_apart: tuple[str, Cursor]) -> str:
    """The URL of another such database, which no other test's service uses."""
    url, cursor = _apart
    _empty(cursor)
    return url


@pytest.fixture
def own_postgres(postgres_binaries: Path, cluster_folder: Path, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that one test stops, with fsync on; its database has the schema."""
    copy_to(cluster_folder / tmp_path.name, postgres_binaries)
    with EmbeddedPostgres(postgres_binaries, cluster_folder / tmp_path.name) as running:
        yield running


@pytest.fixture(scope="session")
def _kept() -> Iterator[dict[str, Database]]:
    """What tests have connected, by its URL: to connect and prepare takes longer than many a test."""
    kept: dict[str, Database] = {}
    yield kept
    for connected in kept.values():
        connected.close()


@pytest.fixture
def database(database_url: str, _kept: dict[str, Database]) -> Iterator[Database]:
    connected = _kept.pop(database_url, None)
    if connected is None or not _is_as_new(connected):
        connected = Database(database_url, prepared=PREPARED, on_connect=schema.check_version)
        connected.connect()
    connect_to(connected)
    yield connected
    models.database.initialize(None)  # a test that does not ask for a database has none
    if _is_idle(connected):
        _kept[database_url] = connected
    else:
        connected.close()


def _is_as_new(connected: Database) -> bool:
    """Take back what the test before has set in the session; it may also have ended the session."""
    with contextlib.suppress(peewee.PeeweeException):
        connected.execute_sql("RESET ALL")
        connected.execute_sql("SELECT pg_advisory_unlock_all()")
        return True
    connected.close()
    return False


def _is_idle(connected: Database) -> bool:
    return not connected.is_closed() and connected.connection().info.transaction_status == TRANSACTION_STATUS_IDLE


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def unmeasured() -> Iterator[None]:
    """Pause coverage in a test that repeats the same lines thousands of times: measuring multiplies its time."""
    measuring = Coverage.current()
    if measuring:
        measuring.stop()
    yield
    if measuring:
        measuring.start()
