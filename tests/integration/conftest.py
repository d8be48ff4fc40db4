"""The running service, and the use cases without it."""

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyrage
import pytest

from app.domain.operators.operators import Role
from app.services import polled
from app.services.cards.card_actions import CardActions
from app.services.cards.issuing import Issuing
from app.services.licence.licence import LicenceService, Verification
from app.services.licence.terms import VendorTerms
from app.services.licence.vendor_rules import VendorRules
from app.services.operators.operators import Operators
from app.services.operators.sessions import Sessions
from app.services.programs import DataKeys
from app.services.shop.shop_tokens import ShopTokens
from app.storage.batcher import Batcher
from app.storage.database import Database, connect_to
from app.tokens.key_folder import KeyFolder
from app.tokens.sealing_key import SealingKey
from app.tokens.signer import Signer
from tests.conftest import Clock, Remembered
from tests.support.concurrency import HeldStatements
from tests.support.console.console import Browser, add_operator
from tests.support.console.console_scene import Scene, furnish
from tests.support.console.log_ins import LogIns
from tests.support.downloads import CONTENT, NAME, ask, put
from tests.support.sample_year import year_of
from tests.support.secrets import SEALING, CheapPasswords
from tests.support.services.functions_service import FUNCTION_SECONDS, FunctionsService
from tests.support.services.raw_http import ONE_WORKER, Connections
from tests.support.services.service import Service, question
from trial.postgres import EmbeddedPostgres

YEAR_CARDS, YEAR_EVENTS = 4_000, 8_000


@pytest.fixture(autouse=True)
def within_one_day() -> None:
    """Wait for midnight, in UTC or Shanghai, if it is less than half a minute away: many tests count a day's events."""
    left = min((midnight - time.time()) % 86_400 for midnight in (0, 16 * 3_600))
    if left < 30:
        time.sleep(left + 0.1)


@pytest.fixture
def renewed_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start no thread that renews what is polled: the test renews it itself."""
    monkeypatch.setattr(polled, "_poll", lambda _: None)


@pytest.fixture
def licences(database: Database, clock: Clock, tmp_path: Path, renewed_by_hand: None) -> LicenceService:
    KeyFolder(tmp_path / "keys").create(clock.now)
    rules = VendorRules(database)
    rules.get()  # as in a process that has begun: no request waits for the first reading
    return LicenceService(
        database,
        Batcher(database),
        rules,
        Signer(KeyFolder(tmp_path / "keys")),
        "kadun",
        ZoneInfo("Asia/Shanghai"),
        clock,
    )


@pytest.fixture
def verification(licences: LicenceService) -> Verification:
    return Verification(licences, DataKeys("the-vendor's-own-key", SealingKey(None)))


@pytest.fixture
def touches(database: Database) -> Batcher:
    return Batcher(database)


@pytest.fixture
def batched(database: Database, monkeypatch: pytest.MonkeyPatch) -> Batcher:
    """As a worker has it, for requests in greenlets of the test's own thread."""
    touches = Batcher(database)
    monkeypatch.setattr(touches, "_is_batching", True)
    return touches


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> HeldStatements:
    """The statements of `batched`, which wait until the test releases them."""
    return HeldStatements(monkeypatch)


@pytest.fixture
def terms(database: Database, clock: Clock) -> VendorTerms:
    return VendorTerms(database, "tester", clock)


@pytest.fixture
def card_actions(database: Database, clock: Clock) -> CardActions:
    return CardActions(database, "tester", clock)


@pytest.fixture
def issuing(database: Database, clock: Clock) -> Issuing:
    return Issuing(database, "tester", clock)


@pytest.fixture
def card_id(issuing: Issuing) -> str:
    return issuing.issue(1, timedelta(days=30)).cards[0].id


@pytest.fixture
def other_id(issuing: Issuing) -> str:
    return issuing.issue(1, timedelta(days=30)).cards[0].id


def with_keys(folder: Path) -> Path:
    """Make the signing keys: a service whose database has active cards refuses to make new ones."""
    KeyFolder(folder / "keys").create(datetime.now(UTC))
    return folder


@pytest.fixture(scope="session")
def year_url(postgres: EmbeddedPostgres) -> str:
    """A database with a year of cards and entries, which tests only read."""
    return year_of(postgres, cards=YEAR_CARDS, events=YEAR_EVENTS, today=datetime.now(UTC).date())


@pytest.fixture
def year(year_url: str) -> Iterator[Database]:
    connected = connect_to(Database(year_url))
    connected.connect()
    yield connected
    connected.close()


@pytest.fixture
def elsewhere(database: Database, database_url: str) -> Iterator[Database]:
    """Another connection, in a transaction."""
    other = Database(database_url)
    other.connect()
    other.execute_sql("BEGIN")
    yield other
    other.close()


@pytest.fixture
def offline(database: Database, database_url: str, tmp_path: Path) -> Service:
    """The service's settings with the command line alone; nothing listens."""
    return Service(tmp_path, database_url)


@pytest.fixture
def keyed(offline: Service) -> Service:
    """The same, with signing keys and an age identity, which is marked as the one in use."""
    offline.environment["KERNAL_DATA_KEY"] = str(pyrage.x25519.Identity.generate())
    offline.cardctl("key", "create")
    offline.cardctl("key", "accept")
    return offline


@pytest.fixture(scope="session")
def _running(emptied: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(with_keys(tmp_path_factory.mktemp("service")), emptied()) as running:
        yield running


@pytest.fixture(scope="session")
def _running_behind_proxy(emptied: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"KADUN_BEHIND_PROXY": "true", "KADUN_WORKERS": "4", "KADUN_THREADS": "4"}
    with Service(with_keys(tmp_path_factory.mktemp("proxied")), emptied(), **settings) as running:
        yield running


@pytest.fixture
def service(_running: Service, database: Database, remembered: Remembered) -> Service:
    """The service without a proxy, where the peer's address counts; one process for all tests, its tables empty."""
    remembered.wait_until_forgotten()
    return _running


@pytest.fixture
def card_with_file(service: Service) -> str:
    """A bound card, with a file that is for every card."""
    put(service, NAME, CONTENT)
    (issued,) = service.issue()
    assert ask(service, issued).status == 200
    return issued


@pytest.fixture
def proxied(_running_behind_proxy: Service, database: Database, remembered: Remembered) -> Service:
    """The service as behind a proxy: X-Real-IP counts, so that a test can speak as any address. Four processes."""
    remembered.wait_until_forgotten()
    return _running_behind_proxy


@pytest.fixture
def one_worker(database: Database, database_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service of the test's own behind a proxy, of one process, which few slow requests can fill."""
    with Service(with_keys(tmp_path), database_url, **ONE_WORKER) as service:
        yield service


@pytest.fixture
def connect() -> Iterator[Connections]:
    with contextlib.closing(Connections()) as opened:
        yield opened


@pytest.fixture
def cards(proxied: Service) -> list[str]:
    """Six cards of 30 days: the first three in use."""
    ids = proxied.issue(6)
    for number, card_id in enumerate(ids[:3]):
        assert proxied.verify(question(card_id, f"machine-{number}"), address=f"203.0.113.{number}").status == 200
    return ids


@pytest.fixture(scope="session")
def _executing(emptied: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = with_keys(tmp_path_factory.mktemp("executing"))
    settings = {"KADUN_FUNCTION_SECONDS": str(FUNCTION_SECONDS), "KADUN_WORKERS": "1"}
    with FunctionsService(folder, **settings).with_shop(), Service(folder, emptied(), **settings) as service:
        yield service


@pytest.fixture
def executing(_executing: Service, database: Database, remembered: Remembered) -> Service:
    """A service with functions, which may run for `FUNCTION_SECONDS`."""
    remembered.wait_until_forgotten()
    return _executing


@pytest.fixture
def own_service(database: Database, database_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service for one test, which changes its keys or counts from nothing."""
    with Service(tmp_path, database_url) as running:
        yield running


@pytest.fixture
def operators(database: Database, clock: Clock) -> Operators:
    return Operators(database, "tester", clock, CheapPasswords())


@pytest.fixture
def sessions(database: Database, clock: Clock) -> Sessions:
    return Sessions(database, clock, SEALING, CheapPasswords())


@pytest.fixture
def tokens(database: Database, clock: Clock) -> ShopTokens:
    return ShopTokens(database, "tester", clock)


@pytest.fixture
def log_ins(database: Database, clock: Clock) -> LogIns:
    return LogIns(database, clock)


@pytest.fixture
def olga(service: Service) -> Browser:
    """An owner in a browser, without a proxy and in English."""
    add_operator("olga")
    return Browser(service, language="en").walk_in("olga")


@pytest.fixture
def owner(proxied: Service) -> Browser:
    """An owner in a browser of their own, behind the proxy."""
    add_operator("老王")
    return Browser(proxied, address="192.0.2.1").walk_in("老王")


@pytest.fixture
def seller(proxied: Service) -> Browser:
    add_operator("小李", Role.SELLER)
    return Browser(proxied, address="192.0.2.2").walk_in("小李")


@pytest.fixture
def scene(service: Service, database: Database) -> Scene:
    """Olga owns, Sam sells, and there is a little of everything."""
    add_operator("olga")
    add_operator("sam", Role.SELLER)
    return furnish(["plain"])
