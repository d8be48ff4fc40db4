"""A person's browser at the site, and what may go wrong in it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, WebError

from tests.e2e.gateway import Gateway
from tests.e2e.socket_service import SocketService

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "test-artifacts/screenshots"

Visit = Callable[..., Page]

_AXE = (ROOT / "tests/browser/vendor/axe.min.js").read_text("utf-8")
_RUN_AXE = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations
    .filter(({impact}) => impact === "serious" || impact === "critical")
    .map(({id, impact, nodes}) => `${id} (${impact}): ${nodes.map(({html, failureSummary}) =>
        `${html}\\n    ${failureSummary}`).join("\\n  ")}`)"""
_TELL_OF_VIOLATIONS = """document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`CSP violation: ${event.effectiveDirective} ${event.blockedURI}`))"""


class Look(NamedTuple):
    """How a visitor sees the pages."""

    device: Literal["desktop", "phone"] = "desktop"
    language: Literal["zh", "en"] = "zh"
    scheme: Literal["light", "dark"] = "light"

    def __str__(self) -> str:
        return "-".join(self)

    def options(self) -> dict[str, Any]:
        """What a browser context wants to look so."""
        phone = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "is_mobile": True}
        return {
            **(
                {**phone, "has_touch": True} if self.device == "phone" else {"viewport": {"width": 1280, "height": 800}}
            ),
            "locale": "zh-CN" if self.language == "zh" else "en-US",
            "color_scheme": self.scheme,
        }


# Each device, each language, each scheme: every page is seen so. The others are for those that docs/console.md shows.
LOOKS = [Look(), Look("phone", "en", "dark")]
MORE_LOOKS = [Look("desktop", "en", "light"), Look("phone", "zh", "dark")]


@dataclass(frozen=True)
class Site:
    """The service behind nginx, over TLS."""

    url: str
    service: SocketService
    gateway: Gateway

    def cardctl(self, *arguments: str, text: str = "") -> str:
        """What `cardctl` prints; `text` is its standard input. Fails where cardctl does."""
        return self.service.cardctl(*arguments, text=text).stdout


class Troubles:
    """What no page may cause: errors and warnings on the console, exceptions that nobody caught, requests that failed,
    and requests to another site. Broken rules of the CSP and answers of 400 and more are errors on the console."""

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
        context.add_init_script(_TELL_OF_VIOLATIONS)
        context.on("console", self._console)
        context.on("weberror", self._exception)
        context.on("request", self._request)
        context.on("requestfailed", self._failed_request)

    def _console(self, message: ConsoleMessage) -> None:
        # The icon that Chromium asks for by itself, at pages that name none: problems and JSON.
        asked_for_icon = message.location["url"] == f"{self._site_url}/favicon.ico"
        if message.type in {"error", "warning", "assert"} and not asked_for_icon:
            self._seen.append(f"console {message.type}: {message.text} ({message.location['url']})")

    def _exception(self, raised: WebError) -> None:
        self._seen.append(f"exception: {raised.error}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((f"{self._site_url}/", "data:", "blob:")):
            self._seen.append(f"another site is asked: {request.url}")

    def _failed_request(self, request: Request) -> None:
        # A download, and what a page had under way when it was left, end so by right.
        if request.failure != "net::ERR_ABORTED":
            self._seen.append(f"failed: {request.method} {request.url}: {request.failure}")


def assert_accessible(page: Page) -> None:
    """Assert that axe-core finds nothing serious or critical on the page as it stands."""
    page.evaluate(_AXE)
    found = page.evaluate(_RUN_AXE)
    assert not found, f"{page.url}:\n" + "\n".join(found)


def assert_fits(page: Page) -> None:
    """Assert that the page is no wider than the window: nothing to scroll sideways, but for what scrolls within."""
    wide, window = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= window, f"{page.url} is {wide} px wide in a window of {window} px"


def assert_walked(site: Site, named: set[tuple[str, str]]) -> None:
    """Assert that nginx saw each of these succeed."""
    seen = {(line["method"], line["path"]) for line in site.gateway.access_log() if line["status"] < 400}
    missing = {
        (method, path)
        for method, path in named
        if not any(each == method and re.fullmatch(path.replace("{name}", ".+"), at) for each, at in seen)
    }
    assert not missing
