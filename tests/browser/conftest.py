"""The real site in a real browser: service, PostgreSQL and nginx with TLS, in Debian's Chromium.

    def test_…(visit: Visit, axe: Check, fits: Check, shot: Shot) -> None:
        page = visit("/admin/", Look("phone", "en", "dark"))
        …
        axe(page); fits(page); shot(page, "login")

- `site` (one for each module, its database empty at the module's start): `site.url` is https://localhost:PORT, where
  Secure cookies hold; `site.service`, `site.gateway` as in tests/e2e; `site.cardctl("admin", "add", …, text=password)`.
- `visit(path, look=LOOKS[0], **options)`: a new person's browser (cookies of its own), at this path. Returns the
  page; `options` go to `browser.new_context`: `java_script_enabled=False`, `storage_state=…` (another page's
  `page.context.storage_state()`: its cookies).
  `LOOKS` has each device, language and scheme: for `@pytest.mark.parametrize("look", LOOKS, ids=str)`.
  The browser stands in another time zone than the vendor, and wants no motion.
- `shop`: what `tests.browser.seeding` put into the site's database. `enter(path, look, who=OWNER)` is `visit` by an
  operator who is logged in already, as a `Person` (tests/browser/people.py); `hire(role)` adds an operator for this
  test alone and returns the name.
- `troubles`: whatever goes wrong in any of the test's pages fails the test at its end. What it means to cause it says
  before: `troubles.expect("status of 422")`; Chromium reports each answer of 400 and more.
- `axe(page)`: nothing serious or critical found by axe-core. `fits(page)`: nothing to scroll sideways.
- `shot(page, name)`: a picture of the whole page, test-artifacts/screenshots/NAME-DEVICE-LANGUAGE-SCHEME.png.

Wait by Playwright's own `expect(…)`, never for a time.
"""

import contextlib
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import psycopg2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from app.domain.operators import Role
from tests.browser.people import Person
from tests.browser.seeding import OWNER, Shop, opened, seed
from tests.browser.visits import LOOKS, SCREENSHOTS, Look, Site, Troubles, Visit, assert_accessible, assert_fits
from tests.console import add_operator
from tests.e2e.gateway import Gateway
from tests.e2e.socket_service import SocketService
from trial.postgres import EmbeddedPostgres

Check = Callable[[Page], None]
Shot = Callable[[Page, str], None]
Enter = Callable[..., Person]
Hire = Callable[..., str]

_ROLES = """DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'kadun_app') THEN
        CREATE ROLE kadun_app LOGIN PASSWORD 'app';
        CREATE ROLE kadun_backup;
    END IF;
END $$"""

expect.set_options(timeout=20_000)  # milliseconds; two cores serve everything


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "Chromium is missing; as root: apt-get install chromium fonts-wqy-microhei"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium)
        yield running
        running.close()


@pytest.fixture(scope="module")
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres
) -> Iterator[Site]:
    database = request.module.__name__.rpartition(".")[2]
    postgres.create_database(database)
    url = postgres.url(database)
    with contextlib.closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(_ROLES)
    service = SocketService(tmp_path_factory.mktemp("service"), url)
    service.cardctl("migrate")
    # From here on with the rights that the service has in the stack, and no others.
    service.environment["DATABASE_URL"] = re.sub(r"//.*@", "//kadun_app:app@", url)
    folder = tmp_path_factory.mktemp("nginx")
    with service, Gateway(folder, service.socket, believe_test_address=True) as gateway:
        yield Site(f"https://localhost:{gateway.https_port}", service, gateway)


@pytest.fixture
def troubles(site: Site) -> Troubles:
    return Troubles(site.url)


@pytest.fixture
def _visitors(browser: Browser, troubles: Troubles) -> Iterator[dict[BrowserContext, Look]]:
    contexts: dict[BrowserContext, Look] = {}
    yield contexts
    for context in contexts:
        context.close()
    assert not troubles.unexpected(), "\n".join(troubles.unexpected())


@pytest.fixture
def visit(site: Site, browser: Browser, troubles: Troubles, _visitors: dict[BrowserContext, Look]) -> Visit:
    def go(path: str, look: Look = LOOKS[0], **options: Any) -> Page:
        context = browser.new_context(
            base_url=site.url,
            ignore_https_errors=True,  # the certificate is made for the test
            timezone_id="America/New_York",
            reduced_motion="reduce",
            permissions=["clipboard-read", "clipboard-write"],
            **{**look.options(), **options},
        )
        _visitors[context] = look
        context.set_default_timeout(20_000)
        troubles.watch(context)
        page = context.new_page()
        page.goto(path)
        return page

    return go


@pytest.fixture(scope="module")
def shop(site: Site) -> Shop:
    return seed(site)


@pytest.fixture(scope="module")
def _states(site: Site, browser: Browser, shop: Shop) -> Callable[[str], Any]:
    @cache
    def log_in(who: str) -> Any:
        context = browser.new_context(base_url=site.url, ignore_https_errors=True)
        person = Person(context.new_page(), LOOKS[0])
        person.log_in(who)
        state = context.storage_state()
        context.close()
        return state

    return log_in


@pytest.fixture
def enter(site: Site, visit: Visit, _states: Callable[[str], Any]) -> Enter:
    def go(path: str, look: Look = LOOKS[0], who: str = OWNER, **options: Any) -> Person:
        state = _states(who)
        language = {**state["cookies"][0], "name": "kadun_language", "value": look.language, "path": "/admin"}
        cookies = [cookie for cookie in state["cookies"] if cookie["name"] != "kadun_language"]
        kept = {"cookies": [*cookies, language], "origins": []}
        return Person(visit(path, look, storage_state=kept, **options), look)

    return go


@pytest.fixture
def hire(site: Site, shop: Shop, request: pytest.FixtureRequest) -> Hire:
    def add(role: Role = Role.OWNER) -> str:
        name = f"小{zlib.crc32(request.node.name.encode()):x}"
        with opened(site):
            add_operator(name, role)
        return name

    return add


@pytest.fixture
def axe() -> Check:
    return assert_accessible


@pytest.fixture
def fits() -> Check:
    return assert_fits


@pytest.fixture
def shot(_visitors: dict[BrowserContext, Look]) -> Shot:
    def take(page: Page, name: str) -> None:
        path = SCREENSHOTS / f"{name}-{_visitors[page.context]}.png"
        page.screenshot(path=path, full_page=True, animations="disabled")

    return take
