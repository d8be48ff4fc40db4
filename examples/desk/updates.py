"""What the vendor tells customers with a verdict: a notice, and updates of this program."""

from __future__ import annotations

import webbrowser
from typing import TYPE_CHECKING

import shop
from console import shown

if TYPE_CHECKING:
    from console import Console
    from kadun import UpdateRequired, Verdict


class Updates:
    """Shows the notice, and offers updates."""

    def __init__(self, console: Console) -> None:
        """Set the console; no update is known yet."""
        self._console = console
        self._url: str | None = None

    def show(self, verdict: Verdict) -> None:
        """Show the vendor's notice, and whether there is a newer version."""
        if verdict.notice:
            self._console.say("notice", notice=shown(verdict.notice))
        if verdict.latest_version and newer(verdict.latest_version, shop.VERSION):
            self._url = verdict.update_url
            name = "update" if is_web_page(self._url) else "update_elsewhere"
            self._console.say(name, version=shown(verdict.latest_version), url=self._url)

    def require(self, error: UpdateRequired) -> None:
        """Tell the customer that this version no longer runs, and offer the page with the update."""
        self._console.complain("failed", error.message)
        self._url = error.update_url
        if is_web_page(self._url) and self._console.confirmed("update_now", url=self._url):
            self.open_page()

    def open_page(self) -> None:
        """Open the page in the browser, if there is one that may be opened."""
        if self._url and is_web_page(self._url):
            webbrowser.open(self._url)
        else:
            self._console.say("no_update")


def is_web_page(url: str | None) -> bool:
    """Return whether a browser may open the address: HTTPS only, because it leads to a program to install."""
    return url is not None and url.startswith("https://") and url.isprintable() and " " not in url


def newer(version: str, than: str) -> bool:
    """Compare dotted numbers: 1.10 is newer than 1.9, and equals 1.10.0."""
    try:
        return _numbers(version) > _numbers(than)
    except ValueError:
        return False


def _numbers(version: str) -> list[int]:
    numbers = [int(part) for part in version.split(".")]
    while numbers[-1:] == [0]:
        numbers.pop()
    return numbers
