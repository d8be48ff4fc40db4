"""The real site in a real browser: service, PostgreSQL and nginx with TLS, in Debian's Chromium (its headless shell).

    @in_every_look
    def test_…(enter: Enter, reading: Reading, look: Look) -> None:
        person = enter("/admin/", look)
        …
        reading(person.page, "overview")

- `visit(path, look=LOOKS[0], **options)`: a new person's browser (no cookies), at this path. Returns the page;
  `options` go to `browser.new_context`.
- `enter(path, look, who=OWNER)` is `visit` by a logged-in operator, as a `Person`; `hire(role)` adds an operator for
  this test and returns the name; `fresh` is three new cards.
- `troubles`: whatever goes wrong in any of the test's pages fails the test at its end. What it means to cause it says
  before: `troubles.expect("status of 422")`; Chromium reports each answer of 400 and more.
- `reading(page, name)`: the page fits, and axe-core finds nothing serious or critical. What is wrong fails the test at
  its end. With `-m nightly` there is a picture of it, test-artifacts/screenshots/NAME-DEVICE-LANGUAGE-SCHEME.png.

Wait by Playwright's own `expect(…)`, never for a time.
"""

import base64
import contextlib
import hashlib
import io
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from app.console.visitor import SessionCookie
from app.domain.codes import Code
from app.domain.operators.operators import Role, Scope, console_actor
from app.runtime.clock import utc_now
from app.services.cards.issuing import Issuing
from app.services.files.file_store import FileStore
from app.services.shop.shop_tokens import ShopTokens
from app.storage.blobs import Blobs
from app.storage.database import Database
from tests.support.browser.seeding import FIRMS, OWNER, Shop, ask, opened, seed
from tests.support.browser.visits import LOOKS, Look, Person, Reading, Site, Troubles, Visit, new_context
from tests.support.console.console import add_operator, add_session
from tests.support.services.functions_service import FunctionsService
from tests.support.services.nginx import Gateway
from tests.support.services.service import OPEN
from tests.support.services.socket_service import SocketService
from trial.postgres import EmbeddedPostgres

Enter = Callable[..., Person]
Hire = Callable[..., str]

_DATABASE = "browser"
_ROLES = """DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'kadun_app') THEN
        CREATE ROLE kadun_app LOGIN PASSWORD 'app';
        CREATE ROLE kadun_backup;
    END IF;
END $$"""

expect.set_options(timeout=60_000)  # milliseconds; two cores serve everything


class Fresh(NamedTuple):
    """Three new cards of 30 days in a batch of their own."""

    batch: str
    ids: list[str]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres) -> Iterator[Site]:
    postgres.create_database(_DATABASE)
    url = postgres.url(_DATABASE)
    with contextlib.closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(_ROLES)
    service = SocketService(tmp_path_factory.mktemp("service"), url)
    service.cardctl("migrate")
    # From here on with the rights that the service has in the stack, and no others.
    service.environment["DATABASE_URL"] = re.sub(r"//.*@", "//kadun_app:app@", url)
    folder = tmp_path_factory.mktemp("nginx")
    with service, Gateway(folder, service.socket, believe_test_address=True) as gateway:
        yield Site(f"https://localhost:{gateway.https_port}", service, gateway)


@pytest.fixture(scope="session")
def browser(site: Site) -> Iterator[Browser]:
    chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    assert chromium, "Chromium is missing; as root: apt-get install chromium-headless-shell fonts-wqy-microhei"
    # Trusted, not ignored: of a site with a wrong certificate Chromium caches nothing, as no visitor has it.
    trusted = f"--ignore-certificate-errors-spki-list={_key_digest(site.gateway.certificates / 'fullchain.pem')}"
    with sync_playwright() as playwright:
        # One process is enough for pages of one site: Chromium would keep another in reserve.
        running = playwright.chromium.launch(executable_path=chromium, args=[trusted, "--renderer-process-limit=1"])
        yield running
        running.close()


def _key_digest(certificate: Path) -> str:
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    return base64.b64encode(
        hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    ).decode()


@pytest.fixture
def looks() -> dict[BrowserContext, Look]:
    """How the test's visitors see the pages, by their browsers."""
    return {}


@pytest.fixture
def troubles(site: Site) -> Troubles:
    return Troubles(site.url)


@pytest.fixture
def visit(site: Site, browser: Browser, looks: dict[BrowserContext, Look], troubles: Troubles) -> Iterator[Visit]:
    def go(path: str, look: Look = LOOKS[0], cookies: Any = (), **options: Any) -> Page:
        context = new_context(browser, site, look, **options)
        looks[context] = look
        context.add_cookies(cookies)
        troubles.watch(context)
        page = context.new_page()
        page.goto(path)
        return page

    yield go
    for context in looks:
        context.close()
    assert not troubles.unexpected(), "\n".join(troubles.unexpected())


@pytest.fixture(scope="session")
def shop(site: Site) -> Shop:
    return seed(site)


# Texts that would run, wherever customers, shops, operators and the vendor's own files bring texts from.
MARKUP = "\"><img src=x onerror=alert(1)>'-alert(2)-'{{7*7}}"
TURNED = f"{MARKUP}\u202e"
"""With a mark that turns all that follows around: not for names, which are printable."""
FILE = "=1+1,@[alert(1)].dat"
"""All that a file's name may have."""

FUNCTIONS = f'''
from typing import Annotated, Any
import msgspec
from app.functions import Caller, core_function

class Prices(msgspec.Struct):
    shop: str
    percent: Annotated[int, msgspec.Meta(ge=-90, le=500)]
    rounded: bool = True

@core_function("批量改价")
def change_prices(arguments: Prices, caller: Caller) -> object:
    """按百分比调整店铺内全部商品的价格。"""
    return {{"changed": 0}}

@core_function("图片去水印")
def clean(arguments: dict[str, Any], caller: Caller) -> object:
    """去除商品主图上的水印，返回处理后的图片。"""
    return {{}}

@core_function({TURNED!r})
def attack(arguments: dict[str, Any], caller: Caller) -> object:
    {MARKUP!r}
    return {{}}
'''
_ADDRESS, _ANOTHER_ADDRESS = "198.51.100.200", "203.0.113.200"
_CARDS = 20  # enough for a place among the largest batches


def invade(site: Site, shop: Shop) -> str:
    """Put such texts wherever there are texts, and two files beside one of such a name; return a card in use."""
    with opened(site) as database:
        add_operator(MARKUP, Role.SELLER)
        ShopTokens(database, console_actor(MARKUP), utc_now).add(MARKUP, [Scope.CARDS_READ])
        issuing = Issuing(database, console_actor(MARKUP), utc_now)
        card, *_others = issuing.issue(_CARDS, timedelta(days=30), MARKUP, MARKUP).cards
        _add_files(site, database)
    for function in (OPEN, TURNED):
        assert ask(site, card.id, TURNED, _ADDRESS, function) == Code.OK
    for wanted in (card.id, shop.live):
        assert ask(site, wanted, f"{TURNED}\n2", _ANOTHER_ADDRESS, OPEN) == Code.CLIENT_MISMATCH
    return str(card.id)


def _add_files(site: Site, database: Database) -> None:
    folder = site.service.folder / "files"
    store = FileStore(database, Blobs(folder), console_actor(MARKUP), utc_now, warn=lambda _text: None)
    for name, size, batches in (
        ("词库-2026春.dat", 2_400_000, ()),
        ("企业版模板.zip", 730_000, (FIRMS,)),
        (FILE, 1, (MARKUP,)),
    ):
        store.add(name, io.BytesIO(bytes(size)), batches=batches)


@pytest.fixture(scope="session")
def strangers(site: Site, shop: Shop) -> Iterator[str]:
    """A card in use by those whose texts would run."""
    functions = FunctionsService(site.service.folder)
    (functions.modules / "shop.py").write_text(FUNCTIONS)
    with functions:
        yield invade(site, shop)


@pytest.fixture
def enter(site: Site, shop: Shop, visit: Visit) -> Enter:
    def go(path: str, look: Look = LOOKS[0], who: str = OWNER, **options: Any) -> Person:
        session = SessionCookie(behind_proxy=True)
        with opened(site):
            token = add_session(who)
        said = {(session.name, session.path): token, ("kadun_language", "/admin"): look.language}
        scope = {"domain": "localhost", "secure": True, "sameSite": "Strict"}
        cookies = [{"name": name, "value": value, "path": path, **scope} for (name, path), value in said.items()]
        return Person(visit(path, look, cookies, **options), look)

    return go


@pytest.fixture
def hire(site: Site, shop: Shop, request: pytest.FixtureRequest) -> Hire:
    def add(role: Role = Role.OWNER) -> str:
        name = f"小{_digest(request)}"
        with opened(site):
            add_operator(name, role)
        return name

    return add


@pytest.fixture
def fresh(site: Site, shop: Shop, request: pytest.FixtureRequest) -> Fresh:
    batch = f"新卡-{_digest(request)}"
    with opened(site) as database:
        cards = Issuing(database, "tester", utc_now).issue(3, timedelta(days=30), batch).cards
        return Fresh(batch, sorted(card.id for card in cards))


def _digest(request: pytest.FixtureRequest) -> str:
    """Return a short name that is this test's alone."""
    return f"{zlib.crc32(request.node.name.encode()):x}"


@pytest.fixture
def reading(looks: dict[BrowserContext, Look], visit: Visit, pytestconfig: pytest.Config) -> Iterator[Reading]:
    looking = Reading(lambda page: looks[page.context], takes_pictures=pytestconfig.option.markexpr == "nightly")
    yield looking
    assert not looking.faults, "\n".join(looking.faults)
