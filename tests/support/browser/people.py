"""Somebody at the console: finds things by what is written on them, in the language that they read."""

import csv
import io
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Page, expect

from tests.support.browser.visits import Look
from tests.support.console.console import PASSWORD


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
