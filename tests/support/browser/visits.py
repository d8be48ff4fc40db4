"""A browser at the site and the person at it; what may go wrong there, and how pages are to be."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    Request,
    expect,
)

from tests.support.console.console import PASSWORD
from tests.support.services.nginx import Gateway
from tests.support.services.socket_service import SocketService

ROOT = Path(__file__).resolve().parents[3]
SCREENSHOTS = ROOT / "test-artifacts/screenshots"

Visit = Callable[..., Page]

_AXE = (ROOT / "tests/browser/vendor/axe.min.js").read_text("utf-8")
# Without what it loads ahead for rules about films and frames, of which there are none.
_RUN_AXE = """async (rules) =>
    (await axe.run(document, {resultTypes: ["violations"], preload: false, rules})).violations
    .filter(({impact}) => impact === "serious" || impact === "critical")
    .map(({id, impact, nodes}) => `${id} (${impact}): ${nodes.map(({html, failureSummary}) =>
        `${html}\\n    ${failureSummary}`).join("\\n  ")}`)"""
_WIDTHS = """() => [
    document.documentElement.scrollWidth,
    document.documentElement.clientWidth,
    [...document.body.querySelectorAll("*")].filter((part) => part.scrollWidth > part.clientWidth + 1
        && ["auto", "scroll"].includes(getComputedStyle(part).overflowX) && !part.matches(".table-responsive"))
        .map((part) => part.outerHTML.slice(0, 200)),
]"""
_TELL_OF_VIOLATIONS = """document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`CSP violation: ${event.effectiveDirective} ${event.blockedURI}`))"""


class Look(NamedTuple):
    device: Literal["desktop", "phone"] = "desktop"
    language: Literal["zh", "en"] = "zh"
    scheme: Literal["light", "dark"] = "light"

    def __str__(self) -> str:
        return "-".join(self)

    def options(self) -> dict[str, Any]:
        device: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
        if self.device == "phone":
            viewport = {"width": 360, "height": 740}
            device = {"viewport": viewport, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
        return {**device, "locale": "zh-CN" if self.language == "zh" else "en-US", "color_scheme": self.scheme}


LOOKS = [Look(), Look("desktop", "en", "dark"), Look("phone", "zh", "light"), Look("phone", "en", "dark")]
"""Both languages and both schemes on each device."""


def _looks(by_default: list[Look], nightly: list[Look]) -> pytest.MarkDecorator:
    rest = [pytest.param(look, marks=pytest.mark.nightly) for look in nightly]
    return pytest.mark.parametrize("look", [*by_default, *rest], ids=str)


in_every_look = _looks(LOOKS[1:3], [LOOKS[0], LOOKS[3]])
# For what is done, not how pages look: nightly each device and each language once.
in_two_looks = _looks(LOOKS[:1], LOOKS[3:])
at_desk_and_by_thumb = _looks([LOOKS[0]], [LOOKS[2]])


@dataclass(frozen=True)
class Site:
    url: str
    service: SocketService
    gateway: Gateway


class Troubles:
    """What no page may cause: errors and warnings on the console, exceptions that nobody caught, dialogs, requests that
    failed, and requests to another site. Broken rules of the CSP and answers of 400 and more are errors on the console.
    """

    def __init__(self, site_url: str) -> None:
        self._site_url = site_url
        self._seen: list[str] = []
        self._expected: list[str] = []

    def expect(self, pattern: str) -> None:
        """Let pass, in this test, what this regular expression is found in, such as `status of 422`."""
        self._expected.append(pattern)

    def unexpected(self) -> list[str]:
        return [trouble for trouble in self._seen if not any(re.search(known, trouble) for known in self._expected)]

    def watch(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda raised: self._seen.append(f"exception: {raised.error}"))
        context.on("dialog", self._dialog)
        context.on("request", self._request)
        context.on("requestfailed", self._failed_request)

    def _console(self, message: ConsoleMessage) -> None:
        # The icon that Chromium asks for by itself, at pages that name none: problems and JSON.
        asked_for_icon = message.location["url"] == f"{self._site_url}/favicon.ico"
        if message.type in {"error", "warning", "assert"} and not asked_for_icon:
            self._seen.append(f"console {message.type}: {message.text} ({message.location['url']})")

    def _dialog(self, dialog: Dialog) -> None:
        self._seen.append(f"dialog: {dialog.message}")
        dialog.dismiss()  # or the page stands still

    def _request(self, request: Request) -> None:
        if not request.url.startswith((f"{self._site_url}/", "data:", "blob:")):
            self._seen.append(f"another site is asked: {request.url}")

    def _failed_request(self, request: Request) -> None:
        # A download, and what a page had under way when it was left, end so by right.
        if request.failure != "net::ERR_ABORTED":
            self._seen.append(f"failed: {request.method} {request.url}: {request.failure}")


def new_context(browser: Browser, site: Site, look: Look, **options: Any) -> BrowserContext:
    """Make a visitor's browser, with an empty cache and no cookies."""
    context = browser.new_context(
        base_url=site.url,
        timezone_id="America/New_York",
        reduced_motion="reduce",
        permissions=["clipboard-read", "clipboard-write"],
        **{**look.options(), **options},
    )
    context.set_default_timeout(20_000)
    context.add_init_script(_TELL_OF_VIOLATIONS)
    return context


class Reading:
    """Looks at pages on the way: nothing to scroll sideways, nothing serious by axe-core; perhaps a picture of each.

    Goes on where something is wrong; whoever made it asks for the `faults` at the end.
    """

    def __init__(self, look_of: Callable[[Page], Look], *, takes_pictures: bool) -> None:
        self._look_of = look_of
        self._takes_pictures = takes_pictures
        self.faults: list[str] = []

    def __call__(self, page: Page, name: str) -> None:
        """Look at the page as it stands; a picture is SCREENSHOTS/NAME-DEVICE-LANGUAGE-SCHEME.png."""
        look = self._look_of(page)
        wide, window, parts = page.evaluate(_WIDTHS)  # only a table of figures may scroll sideways
        if wide > window or parts:
            self.faults.append(f"{page.url} is {wide} px wide in a window of {window} px; parts to scroll: {parts}")
        page.evaluate(_AXE)
        if found := page.evaluate(_RUN_AXE, {"target-size": {"enabled": look.device == "phone"}}):
            self.faults.append(f"{page.url}:\n" + "\n".join(found))
        if self._takes_pictures:
            # At a pixel of the page each, whatever the device has: four times the pixels cost four times as much.
            page.screenshot(path=SCREENSHOTS / f"{name}-{look}.png", full_page=True, scale="css")


class Person:
    """A browser's page, and how its visitor looks at it. Whatever has a text takes it in Chinese and in English."""

    def __init__(self, page: Page, look: Look) -> None:
        self.page = page
        self.look = look

    def t(self, zh: str, en: str) -> str:
        return en if self.look.language == "en" else zh

    def log_in(self, name: str, password: str = PASSWORD, code: str = "") -> Self:
        self.page.goto(f"/admin/login?lang={self.look.language}")
        self.fill_in(name, password, code)
        expect(self.page.get_by_role("button", name=self.t("退出", "Log out"))).to_be_visible()
        return self

    def fill_in(self, name: str, password: str, code: str = "") -> None:
        self.page.locator("#name").fill(name)
        self.page.locator("#password").fill(password)
        self.page.locator("#code").fill(code)
        self.press("登录", "Log in")

    def go(self, path: str) -> Self:
        self.page.goto(path)
        return self

    def button(self, zh: str, en: str, within: Page | Locator | None = None) -> Locator:
        return (within or self.page).get_by_role("button", name=self.t(zh, en), exact=True)

    def press(self, zh: str, en: str, within: Page | Locator | None = None) -> None:
        self.touch(self.button(zh, en, within))

    def follow(self, zh: str, en: str) -> None:
        self.touch(self.page.locator("main").get_by_role("link", name=self.t(zh, en), exact=True))

    def touch(self, what: Locator, **where: Any) -> None:
        """Press it, with the device's own pointer; `where` is `position` alone."""
        if self.look.device == "phone":
            what.tap(**where)
        else:
            what.click(**where)

    def field(self, zh: str, en: str, within: Page | Locator | None = None) -> Locator:
        return (within or self.page).get_by_label(self.t(zh, en), exact=True)

    def reads(self, zh: str, en: str) -> None:
        expect(self.page.locator("main")).to_contain_text(self.t(zh, en))

    def is_headed(self, zh: str, en: str) -> None:
        expect(self.page.locator("h1")).to_contain_text(self.t(zh, en))

    def download(self, button: Locator) -> str:
        """Press it, and return the text that it brings, with the mark at its beginning."""
        with self.page.expect_download() as downloading:
            button.click()
        return Path(downloading.value.path()).read_text("utf-8")

    def download_rows(self, button: Locator) -> list[dict[str, str]]:
        """Press it, and return what is in the CSV that it brings."""
        text = self.download(button)
        assert text.startswith("\ufeff")  # or Excel takes it for GBK
        return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))

    @property
    def rows(self) -> Locator:
        return self.page.locator("#results tbody tr")

    @property
    def query(self) -> dict[str, str]:
        return query_of(self.page.url)


def query_of(url: str) -> dict[str, str]:
    """What stands in an address, each name with its first value."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
