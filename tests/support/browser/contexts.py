"""Browser contexts, kept from test to test."""

from typing import Any, NamedTuple

from playwright.sync_api import Browser, BrowserContext, Page

from tests.support.browser.visits import Look, Troubles


class _Kept(NamedTuple):
    context: BrowserContext
    look: Look
    options: dict[str, Any]

    @property
    def page(self) -> Page:
        return self.context.pages[0]


class Contexts:
    """Those of one browser, each with a page. Whoever takes one finds no cookies, but the browser's cache.

    To open a page (with a process of its own, since the console's are isolated) takes as long as to read five. The
    console keeps nothing else in a browser: no storage, no worker.
    """

    def __init__(self, browser: Browser, site_url: str) -> None:
        self._browser = browser
        self._site_url = site_url
        self._free: list[_Kept] = []
        self._taken: list[_Kept] = []
        self._own: list[_Kept] = []

    def take(self, look: Look, troubles: Troubles, cookies: Any, *, own: bool, options: dict[str, Any]) -> Page:
        """Return the page of one that looks so and that nobody has now; `own` is one that nobody gets afterwards."""
        wanted = (kept for kept in self._free if not own and (kept.look, kept.options) == (look, options))
        kept = next(wanted, None) or self._make(look, options)
        if kept in self._free:
            self._free.remove(kept)
        (self._own if own else self._taken).append(kept)
        kept.context.add_cookies(cookies)
        troubles.watch(kept.context)
        return kept.page

    def take_back(self, troubles: Troubles) -> None:
        """Let all visitors go."""
        for kept in self._own:
            kept.context.close()
        for kept in self._taken:
            troubles.leave(kept.context)
            kept.context.clear_cookies()
            kept.page.unroute_all()
        self._free += self._taken
        self._own, self._taken = [], []

    def look_of(self, page: Page) -> Look:
        (look,) = [kept.look for kept in (*self._own, *self._taken) if kept.context == page.context]
        return look

    def _make(self, look: Look, options: dict[str, Any]) -> _Kept:
        context = self._browser.new_context(
            base_url=self._site_url,
            timezone_id="America/New_York",
            reduced_motion="reduce",
            permissions=["clipboard-read", "clipboard-write"],
            **{**look.options(), **options},
        )
        context.set_default_timeout(20_000)
        Troubles.prepare(context)
        context.new_page()
        return _Kept(context, look, options)
