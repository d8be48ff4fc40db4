"""A flood of wrong log-ins from many addresses does not keep an owner out, on a new browser or a known one."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from app.storage.database import Database
from tests.integration.conftest import with_keys
from tests.support.console import Browser, add_operator
from tests.support.service import Service, wait_for

ATTACKERS = 5
LOG_INS = 3


@pytest.fixture
def proxied(database: Database, database_url: str, tmp_path: Path) -> Iterator[Service]:
    settings = {"KADUN_BEHIND_PROXY": "true", "KADUN_WORKERS": "1", "KADUN_THREADS": "4"}
    with Service(with_keys(tmp_path), database_url, **settings) as running:
        yield running


@pytest.mark.parametrize("device", [None, "made up"], ids=["new browsers", "false devices"])
def test_an_owner_gets_in_through_a_flood(proxied: Service, device: str | None) -> None:
    add_operator("olga")
    known = str(Browser(proxied, address="198.51.100.1").log_in("olga").cookie("kadun_device"))
    numbers, answers, is_over = count(), [], threading.Event()

    def attack() -> None:
        while not is_over.is_set():
            number = next(numbers)
            browser = Browser(proxied, address=f"2001:db8:{number:x}::1")
            if device is not None:
                browser.set_cookie("kadun_device", device, "/admin/login")
            answers.append(browser.post("/admin/login", {"name": "olga", "password": "wrong"}, csrf="").status)

    with ThreadPoolExecutor(ATTACKERS) as pool:
        attacks = [pool.submit(attack) for _ in range(ATTACKERS)]
        try:
            wait_for(lambda: len(answers) > ATTACKERS)
            for number in range(LOG_INS):
                for cookie in (None, known):
                    browser = Browser(proxied, address=f"198.51.100.{number}")
                    if cookie is not None:
                        browser.set_cookie("kadun_device", cookie, "/admin/login")
                    browser.log_in("olga")
        finally:
            is_over.set()
        assert [attack.result(60) for attack in attacks] == [None] * ATTACKERS
    assert set(answers) <= ({403} if device is None else {403, 503})
