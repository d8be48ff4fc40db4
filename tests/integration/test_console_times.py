"""Times in the console are in the vendor's zone."""

import re
from pathlib import Path
from urllib.parse import urlencode

from app.storage.database import Database
from tests.integration.conftest import with_keys
from tests.support.console import OWN, Browser, add_operator
from tests.support.console_scene import FILES, address_of, furnish, paths
from tests.support.service import Service

TIME = re.compile(r"\d\d:\d\d:\d\d(?:\.\d+)?((?:[+-]\d\d:\d\d|Z)?)")
ELEMENT = re.compile(r'<time datetime="(.{10})T(\d\d:\d\d:\d\d)[^"]*(.{6})">(.{10}) (\d\d:\d\d:\d\d)</time>')


def test_every_time_is_in_the_vendors_zone_which_pages_name_and_exports_write_as_an_offset(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    add_operator("olga")
    scene = furnish(["plain"])
    with Service(with_keys(tmp_path), database_url, KADUN_TIMEZONE="Asia/Kolkata") as service:
        olga, offsets, shows_times = Browser(service).walk_in("olga"), {}, set()
        for path in (path for path, access in paths().items() if "GET" in access and not path.startswith(FILES)):
            page = olga.get(f"{address_of(path)}?{urlencode(scene.queries.get(path, {}))}")
            if page.status == 200:
                assert set(TIME.findall(page.words)) <= {""}, path
                assert "Asia/Kolkata" in page.words, path
                for *attribute, offset, day, time in ELEMENT.findall(page.text):
                    assert ([day, time], offset) == (attribute, "+05:30"), path
                    shows_times.add(path)
        for path in ("/admin/cards/export", "/admin/journal/export"):
            text = olga.post(path, {"format": "csv", **OWN}).text
            offsets[path] = set(TIME.findall(text))
    assert offsets == {"/admin/cards/export": {"+05:30"}, "/admin/journal/export": {"+05:30"}}
    assert {"/admin/", "/admin/cards", "/admin/card", "/admin/journal", "/admin/sharing", "/admin/usage"} <= shows_times
    assert {"/admin/keys", "/admin/files"} <= shows_times
